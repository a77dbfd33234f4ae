package tool

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/shell"
)

// short writes ops as a test reads them: action and what is not empty of it.
func short(ops []Op) string {
	var list []string
	for _, o := range ops {
		s := string(o.Action)
		for _, f := range []struct{ name, value string }{
			{"", o.Path},
			{"unit=", o.Unit},
			{"source=", o.Source},
			{"op=", o.Operation},
			{"manager=", o.Manager},
			{"names=", strings.Join(o.Names, ",")},
			{"runtime=", o.Runtime},
			{"argv=", strings.Join(o.Argv, ",")},
			{"engine=", o.Engine},
			{"facet=", o.Facet},
			{"to=", o.Address},
		} {
			if f.value != "" {
				s += " " + f.name + f.value
			}
		}
		if o.Recursive {
			s += "/**"
		}
		if o.Pattern {
			s += " pattern"
		}
		list = append(list, s)
	}
	return strings.Join(list, "; ")
}

func TestDerive(t *testing.T) {
	tests := []struct{ line, want string }{
		{"frobnicate /etc/passwd -x", ""},
		{"true", ""},

		// redirections
		{"echo a > /tmp/x", "file.write /tmp/x"},
		{"echo a >> /tmp/../etc/x", "file.write /etc/x"},
		{"frob < in", "file.read in"},
		{"frob <> both", "file.read both; file.write both"},
		{"echo a 2>/dev/null >/dev/null 2>&1 <&-", ""},
		{"echo a > $x", "file.write"},
		{"echo a >& /tmp/x", "file.write /tmp/x"},
		{"{ a; } > /tmp/x < /tmp/y", "file.write /tmp/x; file.read /tmp/y"},
		{"echo $(cat /etc/shadow)", "file.read /etc/shadow"},

		// files read
		{"cat /var/log/a /var/log//b -n -", "file.read /var/log/a; file.read /var/log/b"},
		{"sudo -n cat /etc/shadow", "file.read /etc/shadow"},
		{"sh -c 'cat /etc/shadow'", "file.read /etc/shadow"},
		{"head -n 5 -c3 --lines 4 a", "file.read a"},
		{"tail -5 -qn 3 a b", "file.read a; file.read b"},
		{"grep -r x /srv", "file.read /srv/**"},
		{"grep -e x -A 3 a", "file.read a"},
		{"grep -f pats a", "file.read pats; file.read a"},
		{"grep --regexp=x a b", "file.read a; file.read b"},
		{"awk '{print $1}' a", "file.read a"},
		{"awk -F : -f prog a", "file.read prog; file.read a"},
		{"sed -n 5p a", "file.read a"},
		{"sort -k 2 -o out in", "file.write out; file.read in"},
		{"sort --output=out in", "file.write out; file.read in"},
		{"sort --outp=out in", "file.write out; file.read in"},
		{"sort --o out in", "file.write out; file.read in"},
		{"sed --in-pl s/a/b/ f", "file.read f; file.write f"},
		{"cp --target-dir=/dst a", "file.write /dst/**; file.read a"},
		{"tar --extr --fil=a.tar --direct=/dst", "file.write /dst/**; file.read a.tar"},
		{"tar -Af a.tar b.tar", "file.read b.tar/**; file.write a.tar"},
		{"tar --list -g /srv/snap -f a.tar", "file.write /srv/snap; file.read a.tar"},
		{"tar -c --remove-files -f a.tar d", "file.write d/**; file.read d/**; file.write a.tar"},
		{"journalctl --user -n 5", "log.read source=journal"},
		{"curl --head http://h/", "net.probe to=h"},
		{"uniq in out", "file.read in; file.write out"},
		{"uniq -f 1 in", "file.read in"},
		{"cat /var/log/*.log", "file.read /var/log/*.log pattern"},
		{"cat -- -n", "file.read -n"},
		{"wc --files0-from=list", "file.read list"},

		// directories
		{"ls", "file.list ."},
		{"ls -la /etc", "file.list /etc"},
		{"du -d 1 -sh /srv", "file.list /srv/**"},
		{"find /var/log /srv -name x -delete", "file.write /var/log/**; file.write /srv/**"},
		{"find -L /srv -type f -fprint out", "file.write out; file.list /srv/**"},
		{"find -name x", "file.list ./**"},

		// files written
		{"cp -a a b /dst", "file.read a/**; file.read b/**; file.write /dst/**"},
		{"cp -t /dst a b", "file.write /dst/**; file.read a; file.read b"},
		{"mv a b", "file.read a/**; file.write a/**; file.write b/**"},
		{"mv -t /dst a", "file.write /dst/**; file.read a/**; file.write a/**"},
		{"gzip -c /srv/a", "file.read /srv/a"},
		{"gunzip /srv/a.gz", "file.read /srv/a.gz; file.write /srv/a.gz; file.write /srv/* pattern"},
		{"zstd -r a", "file.read a/**; file.write a/**; file.write * pattern"},
		{"vi f", "file.read f; file.write f"},
		{"tee -a x y", "file.write x; file.write y"},
		{"rm -rf /", "file.write //**"},
		{"touch -r ref x", "file.read ref; file.write x"},
		{"install -m 755 a /usr/bin/a", "file.read a; file.write /usr/bin/a/**"},
		{"ln -s /etc/passwd", "file.read /etc/passwd/**; file.write ./**"},
		{"ln -s a b", "file.read a/**; file.write b/**"},
		{"dd if=/dev/sda of=/tmp/x bs=1M", "file.read /dev/sda; file.write /tmp/x"},
		{"sed -i s/a/b/ f", "file.read f; file.write f"},
		{"sed 's/a/b/w /etc/x' f", "file.read f; file.write /etc/x"},
		{"sed -n 'r /etc/x\nw /etc/y' f", "file.read f; file.read /etc/x; file.write /etc/y"},
		{"sed -e '1,/^[[:space:]/;]*$/d' f", "file.read f; file.write //**"},
		{"sed -e '1,/^[[:space:];]*$/{s|/|[|gp;b end};y/w/r/;:end' f", "file.read f"},
		{"sed '/x/!s,a,w e,I;$a\\\nw /etc/x' f", "file.read f"},
		{"sed '$a\\ \nw /etc/x' f", "file.read f; file.write /etc/x"},
		{"sed 's/a/id/e' f", "file.read f; file.write //**"},
		{"sed '1e id' f", "file.read f; file.write //**"},
		{"sed 's/[]/w x]/y/' f", "file.read f; file.write //**"},
		{"sed -f s.sed f", "file.read s.sed; file.read f; file.write //**"},
		{"sed --expression=w/etc/x f", "file.read f; file.write /etc/x"},
		{"sed -i.bak -e s/a/b/ f g", "file.read f; file.write f; file.read g; file.write g; file.write f.bak; file.write g.bak"},
		{"sed --in-place=.bak s/a/b/ d/f", "file.read d/f; file.write d/f; file.write d/f.bak"},
		{"sed -i'/etc/cron.d/*' s/a/b/ f", "file.read f; file.write f; file.write //**"},
		{"chmod -R 755 /srv", "file.write /srv/**"},
		{"chmod -x /srv/a", "file.write /srv/a"},
		{"chown root: a b", "file.write a; file.write b"},
		{"scp web:/etc/passwd /tmp/x", "file.write /tmp/x/**"},
		{"tar -czf /tmp/a.tgz /etc", "file.read /etc/**; file.write /tmp/a.tgz"},
		{"tar xf a.tar -C /srv", "file.write /srv/**; file.read a.tar"},
		{"tar tf a.tar", "file.read a.tar"},
		{"tar cf - -C / etc", "file.read /etc/**"},
		{"tar cf - -C /srv -C app etc/x /y", "file.read /srv/app/etc/x/**; file.read /y/**"},
		{"tar cf - -T /tmp/list", "file.read /tmp/list; file.read //**"},
		{"tar xf a.tar -C /srv -C app", "file.write /srv/app/**; file.read a.tar"},
		{"diff --from-file=/etc/shadow /tmp/a", "file.read /etc/shadow; file.read /tmp/a"},
		{"diff -X /etc/x -r /a /b", "file.read /etc/x; file.read /a/**; file.read /b/**"},
		{"split -l 9 /tmp/a /etc/x", "file.read /tmp/a; file.write /etc/**"},
		{"split /tmp/a", "file.read /tmp/a; file.write ./**"},
		{"shuf -o /etc/x /tmp/a", "file.write /etc/x; file.read /tmp/a"},
		{"iconv -f latin1 -o /etc/x /tmp/a", "file.write /etc/x; file.read /tmp/a"},
		{"look x /etc/words", "file.read /etc/words"},
		{"zip -r /tmp/a.zip /etc", "file.write /tmp/a.zip; file.read /etc/**"},
		{"link /etc/x /tmp/y", "file.read /etc/x; file.write /tmp/y"},
		{"mktemp -p /etc", "file.write /etc"},
		{"patch /etc/x /tmp/y", "file.write /etc/x/**; file.write /tmp/y/**"},
		{"patch -d /srv -i /tmp/y", "file.write /srv; file.read /tmp/y; file.write ./**"},

		// services
		{"systemctl", "service.list"},
		{"systemctl --failed", "service.list"},
		{"systemctl status nginx app", "service.list unit=nginx; service.list unit=app"},
		{"systemctl -t service list-units", "service.list"},
		{"sudo -n systemctl restart app", "service.control unit=app op=restart"},
		{"systemctl daemon-reload", "service.control op=daemon-reload"},
		{"systemctl frobnicate app", "service.control unit=app op=frobnicate"},
		{"service nginx reload", "service.control unit=nginx op=reload"},
		{"service nginx status", "service.list unit=nginx"},

		// logs
		{"journalctl -u app --unit=web -n 5", "log.read unit=app source=journal; log.read unit=web source=journal"},
		{"journalctl --no-pager -n 5", "log.read source=journal"},
		{"journalctl --vacuum-time=1s", "file.write /var/log/journal"},
		{"journalctl -u app --cursor-file=/tmp/c", "log.read unit=app source=journal; file.write /tmp/c"},
		{"dmesg -T", "log.read source=kernel"},

		// packages
		{"apt-get -y install nginx curl", "package.write op=install manager=apt names=nginx,curl"},
		{"apt list --installed", "package.read op=list manager=apt"},
		{"apt-get -o Dpkg::x=y update", "package.write op=update manager=apt"},
		{"apt-cache policy nginx", "package.read op=policy manager=apt names=nginx"},
		{"dpkg -l nginx", "package.read manager=dpkg names=nginx"},
		{"dpkg -i a.deb", "package.write op=i manager=dpkg names=a.deb"},
		{"dpkg --purge a", "package.write op=purge manager=dpkg names=a"},
		{"rpm -qi bash", "package.read op=q manager=rpm names=bash"},
		{"rpm -Uvh a.rpm", "package.write op=U manager=rpm names=a.rpm"},
		{"yum remove x", "package.write op=remove manager=yum names=x"},
		{"dnf -y --repo r search x", "package.read op=search manager=dnf names=x"},
		{"apk add x", "package.write op=add manager=apk names=x"},
		{"zypper in x", "package.write op=in manager=zypper names=x"},

		// containers
		{"docker ps -a", "container.list op=ps runtime=docker"},
		{"docker -H tcp://x images", "container.list op=images runtime=docker"},
		{"docker logs --tail 5 web", "container.read op=logs names=web runtime=docker"},
		{"docker logs -ft web", "container.read op=logs names=web runtime=docker"},
		{"docker stop -t 5 web", "container.control op=stop names=web runtime=docker"},
		{"docker stop web db", "container.control op=stop names=web,db runtime=docker"},
		{"podman container rm -f web", "container.control op=container rm names=web runtime=podman"},
		{"docker exec -it -u root web ls -la /", "container.run op=exec names=web runtime=docker argv=ls,-la,/"},
		{"docker run --rm -v /:/host alpine cat /host/etc/shadow", "container.run op=run names=alpine runtime=docker argv=cat,/host/etc/shadow"},
		{"docker compose -f x.yml up -d", "container.control op=compose up runtime=docker"},
		{"docker compose exec web sh", "container.run op=compose exec names=web runtime=docker argv=sh"},
		{"docker cp web:/etc/passwd /tmp/p", "file.write /tmp/p/**; container.control op=cp names=web:/etc/passwd,/tmp/p runtime=docker"},
		{"docker frobnicate x", "container.control op=frobnicate names=x runtime=docker"},
		{"docker --version", "container.read runtime=docker"},

		// databases
		{"psql -c 'select 1'", "db.run engine=postgres"},
		{"psql -f q.sql -o out", "file.read q.sql; file.write out; db.run engine=postgres"},
		{"mysql -e 'show tables'", "db.run engine=mysql"},
		{"mariadb x", "db.run engine=mariadb"},
		{"redis-cli flushall", "db.run engine=redis"},
		{"mongosh x", "db.run engine=mongodb"},
		{"sqlite3 /srv/a.db .dump", "file.write /srv/a.db; db.run engine=sqlite"},

		// network
		{"ping -c 3 10.0.0.1", "net.probe to=10.0.0.1"},
		{"curl -sS -m 5 http://user@localhost:8080/x", "net.probe to=localhost"},
		{"curl localhost:8080/x -o /tmp/x", "file.write /tmp/x; net.probe to=localhost"},
		{"curl -d @/etc/shadow 'https://[::1]/'", "file.read /etc/shadow; net.probe to=::1"},
		{"curl -O http://x/y", "file.write ./**; net.probe to=x"},
		{"wget http://x/y", "file.write ./**; net.probe to=x"},
		{"wget -qO- http://x/y", "file.write ./**; net.probe to=x"},
		{"nc -w 3 10.0.0.1 22", "net.probe to=10.0.0.1"},
		{"dig @8.8.8.8 example.org", "net.probe to=8.8.8.8"},
		{"dig example.org MX", "net.probe to=example.org"},
		{"nc -l", "net.probe"},
		{"nmap -p 22 -oN /tmp/x 10.0.0.1", "file.write /tmp/x; net.probe to=10.0.0.1"},

		{"tcpdump -i eth0 -w /tmp/x.pcap port 80", "file.write /tmp/x.pcap; capture.run"},
		{"tshark -r x.pcap", "file.read x.pcap; capture.run"},

		// repositories and tests
		{"git -C /srv/app status -sb", "file.read /srv/app/**"},
		{"git -C /srv -C app log --stat", "file.read /srv/app/**"},
		{"git -C /srv branch -av", "file.read /srv/**"},
		{"git -C /srv branch -d x", "file.write /srv/**"},
		{"git -C /srv branch x", "file.write /srv/**"},
		{"git -C /srv pull", "file.write /srv/**"},
		{"git status", "file.read ./**"},
		{"git --git-dir=/a/.git --work-tree /b diff --output /tmp/x", "file.read /a/.git/**; file.read /b/**; file.read ./**; file.write /tmp/x"},
		{"git --version", ""},
		{"test -f /etc/hosts", "file.list /etc/hosts"},
		{"[ ! -d /srv/app ]", "file.list /srv/app"},
		{"[ /a -nt /b ]", "file.list /a; file.list /b"},
		{"test -n x", ""},
		{"test -e /srv/*", "file.list /srv/* pattern"},
		{"df -h -t ext4", "host.read facet=disk"},
		{"rg -e x", "file.read ./**"},
		{"ls -R /srv", "file.list /srv/**"},
		{"cp -a a b", "file.read a/**; file.write b/**"},
		{"rsync -a a b", "file.read a/**; file.write b/**"},
		{"cp /srv/*.a /dst", "file.read /srv/*.a pattern; file.write /dst/**"},
		{"find /srv/*", "file.list /srv/*/** pattern"},
		{"sort -o /srv/? a", "file.write /srv/? pattern; file.read a"},

		{"uptime", "host.read facet=load"},
		{"df -h /", "file.list /; host.read facet=disk"},
		{"free -m", "host.read facet=memory"},
		{"ps aux | grep nginx", "host.read facet=process"},
		{"uname -a", "host.read facet=os"},
		{"ss -tlnp", "host.read facet=socket"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			ops := Derive(shell.Parse(tt.line))
			if diff := cmp.Diff(tt.want, short(ops)); diff != "" {
				t.Errorf("Derive(%q) (-want +got)\n%s", tt.line, diff)
			}
			for _, o := range ops {
				if !o.Derived || o.Effect == "" || o.Effect != o.Action.Effect() {
					t.Errorf("%+v is not marked as derived, or its effect is wrong", o)
				}
				if strings.HasPrefix(string(o.Action), "file.") != (o.Place == "host") {
					t.Errorf("%+v has the wrong place", o)
				}
			}
		})
	}
}

// What is not certain to be where it seems is below nothing.
func TestDeriveUnder(t *testing.T) {
	for _, tt := range []struct{ line, cwd, path, under string }{
		{"cat /var/log/a", "", "/var/log/a", "/ /var /var/log /var/log/a"},
		{"cat /var//log/./a/", "", "/var/log/a", "/ /var /var/log /var/log/a"},
		{"cat /var/log/../a", "", "/var/a", ""},
		{"cat /..", "", "/", ""},
		{"cat a", "", "a", ""},
		{"cat a", "/srv", "/srv/a", "/ /srv /srv/a"},
		{"cat ../a", "/srv/b", "/srv/a", ""},
		{"cat ..a", "/srv", "/srv/..a", "/ /srv /srv/..a"},
		{"ls", "", ".", ""},
		{"ls", "/srv", "/srv", "/ /srv"},
		{"cd /tmp; cat a", "/srv", "a", ""},
		{"cat /var/log/*.log", "", "/var/log/*.log", "/ /var /var/log"},
		{"cat /*", "", "/*", "/"},
		{"cat /var/lo?/a", "", "/var/lo?/a", "/ /var"},
		{"cat '/var/log/*'", "", "/var/log/*", "/ /var /var/log /var/log/*"},
		{"echo a > /tmp/../x", "", "/x", ""},
	} {
		op := Derive(shell.Parse(tt.line).In(tt.cwd))[0]
		if got := strings.Join(op.Under, " "); op.Path != tt.path || got != tt.under {
			t.Errorf("%q in %q: %q below %q, want %q below %q", tt.line, tt.cwd, op.Path, got, tt.path, tt.under)
		}
	}
}

func TestDeriveCall(t *testing.T) {
	var calls []string
	for _, o := range Derive(shell.Parse("true; cat a | tee b >c; { x; } >d")) {
		calls = append(calls, fmt.Sprintf("%s %d", o.Path, o.Call))
	}
	want := []string{"a 1", "c 2", "b 2", "d -1"}
	if !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}

// Every action that a table names must have an effect.
func TestProgramsActions(t *testing.T) {
	for name, p := range programs {
		actions := []Action{p.action, p.last, p.others}
		for _, a := range p.verbs {
			actions = append(actions, a)
		}
		for _, a := range actions {
			if a != "" && a.Effect() == "" {
				t.Errorf("%s: %s has no effect", name, a)
			}
		}
	}
}

func TestDeriveAllocatesNothing(t *testing.T) {
	doc := shell.Parse("frobnicate -a /etc/passwd | something-else 2>/dev/null")
	if n := testing.AllocsPerRun(100, func() { Derive(doc) }); n != 0 {
		t.Errorf("%v allocations for programs that are not known", n)
	}
}

func BenchmarkDerive(b *testing.B) {
	doc := shell.Parse("journalctl -u app --no-pager -n 500 2>/dev/null | grep -c ERROR | head -n 5")
	b.ReportAllocs()
	for b.Loop() {
		Derive(doc)
	}
}
