package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"golang.org/x/sys/unix"
)

// layers are what the file, the environment and the flags say, each value read
// and checked where it stands. viper decides which of them counts;
// the loader's origins keep the place of the one that does.
type layers struct{ viper *viper.Viper }

// settings reads sallyport.yml and what goes over it. A value that is wrong is
// reported even where a higher layer hides it.
func (l *loader) settings() Settings {
	ly := layers{viper.New()}
	l.origins = Origins{l.place(settingsFile), map[string]place{}}
	ly.viper.SetDefault("tokens", []Token{})
	named := Settings{
		Policy: PolicySettings{Keys: map[string]BundleKey{}, Services: map[string]BundleService{}, Bundles: []BundleSource{}},
		Shadow: ShadowSettings{Bundles: []BundleSource{}},
	}
	for _, s := range settingTable {
		if s.def != nil {
			ly.viper.SetDefault(s.key, s.def)
		}
	}
	ly.merge(l.fileLayer(&named))
	ly.merge(l.envLayer())
	l.flagLayer(ly)
	for _, log := range []string{"logs.decision", "logs.audit"} {
		if !ly.viper.IsSet(log + ".stderr") {
			elsewhere := log == "logs.decision" && ly.viper.GetString("logs.upload.service") != ""
			ly.viper.SetDefault(log+".stderr", ly.viper.GetString(log+".file") == "" && !elsewhere)
		}
	}
	var s Settings
	if err := ly.viper.UnmarshalExact(&s); err != nil {
		l.place(settingsFile).fail(faultf("compare it with what sallyport init writes", "%v", err))
	}
	s.Policy.Keys, s.Policy.Services, s.Policy.Bundles = named.Policy.Keys, named.Policy.Services, named.Policy.Bundles
	s.Shadow.Bundles = named.Shadow.Bundles
	l.checkSettings(&s)
	return s
}

func (ly layers) merge(values map[string]any) {
	nested := map[string]any{}
	for key, val := range values {
		at := nested
		path := strings.Split(key, ".")
		for _, section := range path[:len(path)-1] {
			if _, ok := at[section]; !ok {
				at[section] = map[string]any{}
			}
			at = at[section].(map[string]any)
		}
		at[path[len(path)-1]] = val
	}
	// It cannot go wrong: the keys are the table's, so none is both a section
	// and a value.
	_ = ly.viper.MergeConfigMap(nested)
}

// fileLayer is what sallyport.yml says, and into named what it lists of bundles.
// The file may be missing.
func (l *loader) fileLayer(named *Settings) map[string]any {
	values := map[string]any{}
	root, ok := l.optional(settingsFile)
	if !ok {
		return values
	}
	read := func(v value, s setting) {
		l.origins.made[s.key] = v.place
		if x, ok := s.fromNode(v); ok {
			values[s.key] = x
		}
	}
	known := l.section("", read)
	known["policy"] = func(v value) {
		policy := l.section("policy.", read)
		maps.Copy(policy, l.bundleFields(&named.Policy))
		v.object(policy)
	}
	known["shadow"] = func(v value) {
		shadow := l.section("shadow.", read)
		shadow["bundles"] = l.bundleSources("shadow", &named.Shadow.Bundles)
		v.object(shadow)
	}
	known["tokens"] = func(v value) {
		l.origins.made["tokens"] = v.place
		values["tokens"] = tokens(v)
	}
	root.object(known)
	return values
}

// section is the fields under a prefix of the setting table.
func (l *loader) section(prefix string, read func(value, setting)) fields {
	known := fields{}
	for _, s := range settingTable {
		rest, ok := strings.CutPrefix(s.key, prefix)
		if !ok {
			continue
		}
		head, _, nested := strings.Cut(rest, ".")
		if nested {
			known[head] = func(v value) { v.object(l.section(prefix+head+".", read)) }
		} else {
			known[head] = func(v value) { read(v, s) }
		}
	}
	return known
}

func (s setting) fromNode(v value) (any, bool) {
	if !s.list {
		return parsed(v, s.tag, s.words)
	}
	var list []string
	texts(&list, func(one string) *fault { _, f := s.words(one); return f })(v)
	return list, true
}

// fromText reads a setting from a flag or a variable, a list with commas.
func (s setting) fromText(p place, text string) (any, bool) {
	if !s.list {
		return s.word(p, text)
	}
	list := []string{}
	if text == "" {
		return list, true
	}
	for one := range strings.SplitSeq(text, ",") {
		x, ok := s.word(p, strings.TrimSpace(one))
		if !ok {
			return nil, false
		}
		list = append(list, x.(string))
	}
	return list, true
}

func (s setting) word(p place, text string) (any, bool) {
	x, f := s.words(text)
	if f != nil {
		p.fail(f)
	}
	return x, f == nil
}

// settingEnv is the environment variable of a setting.
func settingEnv(key string) string {
	return "SALLYPORT_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// envLayer is what the environment says. viper would read the process
// environment itself, unchecked; here the look-up is the caller's and each
// value is read like one of the file. An empty variable counts as unset.
func (l *loader) envLayer() map[string]any {
	values := map[string]any{}
	for _, s := range settingTable {
		text := l.env(settingEnv(s.key))
		if text == "" {
			continue
		}
		p := place{report: l.report, file: settingEnv(s.key), path: s.key}
		l.origins.made[s.key] = p
		if x, ok := s.fromText(p, text); ok {
			values[s.key] = x
		}
	}
	for _, key := range []string{"tokens", "policy.keys", "policy.services", "policy.bundles", "shadow.bundles"} {
		if name := settingEnv(key); l.env(name) != "" {
			place{report: l.report, file: name}.fail(faultf("unset it", "%s can be written in %s only", key, settingsFile))
		}
	}
	if l.Env == nil {
		l.unknownVariables(os.Environ())
	}
	return values
}

// unknownVariables warns of variables that look like ours and are not read.
func (l *loader) unknownVariables(environ []string) {
	known := []string{
		"SALLYPORT_CONFIG_DIR", "SALLYPORT_KEYS_DIR", "SALLYPORT_SECRETS_DIR",
		"MCP_SSH_CONFIG_DIR", "MCP_SSH_KEYS_DIR", "MCP_SSH_SECRETS_DIR",
	}
	for _, s := range settingTable {
		known = append(known, settingEnv(s.key))
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		ours := strings.HasPrefix(name, "SALLYPORT_") || strings.HasPrefix(name, "MCP_SSH_")
		if ours && !slices.Contains(known, name) && !hasSecretPrefix(name) {
			f := unknownFault(name, "variable", "settings of sallyport.yml", known)
			place{report: l.report, file: name}.warn(faultf(f.remedy, "no setting is read from this environment variable"))
		}
	}
}

// flagLayer is what was given on the command line.
func (l *loader) flagLayer(ly layers) {
	if l.Flags == nil {
		return
	}
	for _, s := range settingTable {
		flag := l.Flags.Lookup(settingFlags[s.key])
		if flag == nil || !flag.Changed {
			continue
		}
		p := place{report: l.report, file: "--" + flag.Name, path: s.key}
		l.origins.made[s.key] = p
		if x, ok := s.fromText(p, flagText(flag)); ok {
			ly.viper.Set(s.key, x)
		}
	}
}

func flagText(f *pflag.Flag) string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return strings.Join(list.GetSlice(), ",")
	}
	return f.Value.String()
}

// tokens reads the list of bearer tokens; an id names one of them in policies
// and logs, so neither it nor the token may be there twice.
func tokens(v value) []Token {
	list := []Token{}
	ids, sums := map[string]int{}, map[string]int{}
	v.items(func(item value) {
		t := Token{Groups: []string{}}
		item.object(fields{
			"id":     text(&t.ID, name(maxAlias)),
			"sha256": text(&t.SHA256, sha256Hex),
			"groups": texts(&t.Groups, person),
		}, "id", "sha256")
		t.SHA256 = strings.ToLower(t.SHA256)
		item.claim(ids, t.ID, fmt.Sprintf("id %q", t.ID))
		item.claim(sums, t.SHA256, "sha256")
		list = append(list, t)
	})
	return list
}

// checkSettings is what no single value shows: names that lead nowhere, and
// settings that do not go together.
func (l *loader) checkSettings(s *Settings) {
	l.checkListen(s, l.origins.at("http.listen"))
	if l.Toolsets != nil {
		for _, set := range s.Toolsets {
			if f := oneOf(l.Toolsets...)(set); f != nil {
				l.origins.at("toolsets").fail(f)
			}
		}
	}
	l.checkLog(&s.Logs.Decision, "logs.decision", s.Logs.Upload.Service != "")
	l.checkLog(&s.Logs.Audit, "logs.audit", false)
	if s.Logs.Decision.File != "" && s.Logs.Decision.File == s.Logs.Audit.File {
		l.origins.at("logs.audit.file").fail(faultf("give each a file of its own", "logs.decision.file is the same file"))
	}
	l.checkBundlePaths("policy", &s.Policy.Bundle, &s.Policy.Custom)
	l.checkBundlePaths("shadow", &s.Shadow.Bundle, &s.Shadow.Custom)
	s.SSH.KnownHosts = l.relative(s.SSH.KnownHosts)
	s.StateDir = l.relative(s.StateDir)
	l.checkUpload(&s.Logs.Upload, s.Policy.Services, s.StateDir)
}

func (l *loader) checkBundlePaths(key string, main *string, custom *[]string) {
	*main = l.mustExist(*main, l.origins.at(key+".bundle"))
	for i, path := range *custom {
		(*custom)[i] = l.mustExist(path, l.origins.at(key+".custom"))
	}
	*custom = slices.DeleteFunc(*custom, func(path string) bool { return path == "" })
}

// checkLog looks at the places of a log, of which uploaded is one more.
func (l *loader) checkLog(sink *LogSink, key string, uploaded bool) {
	if sink.File == "" && !sink.Stderr && !uploaded {
		l.origins.at(key + ".stderr").fail(faultf("name a file, or write stderr: true", "the log would go nowhere, and without a record nothing runs"))
	}
	l.checkGrowth(*sink, key)
	sink.File = l.relative(sink.File)
	if sink.File == "" || l.WithoutSecrets {
		return
	}
	p := l.origins.at(key + ".file")
	if f := notAFile(sink.File); f != nil {
		p.fail(f)
	} else if f := unwritable(sink.File); f != nil {
		p.warn(f)
	}
}

// checkUpload refuses settings of an upload that there is not.
func (l *loader) checkUpload(u *Upload, services map[string]BundleService, stateDir string) {
	const key = "logs.upload."
	if u.Service == "" {
		for _, s := range settingTable {
			if made, ok := l.origins.made[s.key]; ok && strings.HasPrefix(s.key, key) {
				made.fail(faultf("name the service in "+key+"service, one of policy.services, or leave it out", "%s is of an upload, and there is none", s.key))
			}
		}
		return
	}
	if _, known := services[u.Service]; !known {
		l.origins.at(key + "service").fail(unknownFault(u.Service, "service", "policy.services", sortedKeys(services)))
	} else if services[u.Service].OCI {
		l.origins.at(key + "service").fail(faultf("name another", "%s is a registry, which takes no logs", u.Service))
	}
	checkDelays(l.origins.at(key+"reporting.min_delay_seconds"), u.Reporting.MinDelaySeconds, u.Reporting.MaxDelaySeconds)
	if u.Buffer = l.relative(u.Buffer); u.Buffer == "" {
		u.Buffer = filepath.Join(stateDir, "decision-log")
	}
}

// leastRotation keeps a log from being cut into pieces that nobody can follow.
const leastRotation = 64 << 10

func (l *loader) checkGrowth(sink LogSink, key string) {
	p := l.origins.at(key + ".max_bytes")
	switch {
	case sink.MaxBytes > 0 && sink.File == "":
		p.fail(faultf("name a file, or leave it out", "%s.max_bytes is of a file, and there is none", key))
	case sink.MaxBytes > 0 && sink.MaxBytes < leastRotation:
		p.fail(faultf(fmt.Sprintf("write %d or more, or 0 for one file that grows", leastRotation), "%d bytes are too few for a log file", sink.MaxBytes))
	case sink.Keep > 0 && sink.MaxBytes == 0:
		l.origins.at(key + ".keep").fail(faultf("write "+key+".max_bytes too, or leave it out", "nothing makes old files of which some could be kept"))
	}
}

// notAFile says why no file can be at a path.
func notAFile(path string) *fault {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return faultf("name a file in it", "%s is a directory", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
		return faultf("name a file that can be made", "%s: %v", path, cause(err))
	}
	return nil
}

// unwritable says why this account cannot write a file, or make it: whoever
// writes it makes the directories that are missing. Another account may.
func unwritable(path string) *fault {
	at, access := path, uint32(unix.W_OK)
	for at != filepath.Dir(at) && !there(at) {
		at, access = filepath.Dir(at), unix.W_OK|unix.X_OK
	}
	if unix.Access(at, access) == nil {
		return nil
	}
	return faultf("let the account that serves write there, or name another file", "this account may not write %s", at)
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkListen keeps the gateway from being open to a network without asking who
// calls.
func (l *loader) checkListen(s *Settings, p place) {
	if isLoopback(s.HTTP.Listen) || len(s.Tokens) > 0 {
		return
	}
	f := faultf("listen on 127.0.0.1, or add tokens", "%q is off loopback and there are no tokens, so anyone could call", s.HTTP.Listen)
	if s.Transport == "http" {
		p.fail(f)
	} else {
		p.warn(f)
	}
}

// relative joins a path to the configuration directory, unless it is absolute
// or begins with the home directory's ~.
func (l *loader) relative(path string) string {
	home := l.env("HOME")
	rest, tilde := strings.CutPrefix(path, "~/")
	switch {
	case path == "" || filepath.IsAbs(path):
		return path
	case tilde && home != "":
		return filepath.Join(home, rest)
	}
	return filepath.Join(l.dir, path)
}

// mustExist joins a path likewise, and reports one that leads nowhere, which it
// leaves out.
func (l *loader) mustExist(path string, p place) string {
	path = l.relative(path)
	if path == "" {
		return ""
	}
	if _, err := os.Stat(path); err != nil {
		p.fail(faultf("put it there, or remove the setting", "%s %s", path, asFault(err, "").message))
		return ""
	}
	return path
}
