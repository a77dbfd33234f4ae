package sshexec

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// Types of packets.
const (
	fxpInit   = 1
	fxpOpen   = 3
	fxpClose  = 4
	fxpHandle = 102
	fxpName   = 104
)

const (
	fxfCreateNew    = 0x08 | 0x20 // SSH_FXF_CREAT and SSH_FXF_EXCL
	fxaPermissions  = 0x04
	limitsExtension = "limits@openssh.com"
	mostGreeting    = 64 << 10
	// headBytes is what is read ahead of a packet to see what it is. What is read
	// ahead is copied once more.
	headBytes = 4 << 10
)

// packets is the stream of an SFTP session, of which pkg/sftp holds the other
// end. It does there what that leaves undone: it asks the server how large a
// packet may be, has new files made with a mode instead of changing it when
// others may have opened them, and bounds what a directory may hold.
type packets struct {
	channel ssh.Channel
	closed  func() // pkg/sftp has ended the session

	// greeting is the server's first packet, read by greet, and then by pkg/sftp
	// once more.
	greeting []byte
	in       *bufio.Reader
	inLeft   int // of the packet being read
	outLeft  int // of the packet being written
	greeted  bool

	// mode is that of the file that is made next; 0 leaves it to the server.
	mode atomic.Uint32
	// names counts the bytes of names that have come.
	names atomic.Int64
	hooks atomic.Pointer[hooks]
	// closing is called whenever the server has been asked to close something.
	closing atomic.Pointer[func()]
}

// hooks are told of what comes while a directory is read. They must be quick.
type hooks struct {
	opened func()            // a handle
	named  func(bytes int64) // names, so many in all
}

func newPackets(ch ssh.Channel, closed func()) *packets {
	return &packets{channel: ch, closed: closed, in: bufio.NewReaderSize(ch, headBytes)}
}

// greet begins the session, and with ask returns how much may be read or written
// with one packet; 0 if the server does not tell.
func (p *packets) greet(ask bool) (int, error) {
	if err := p.send(ssh.Marshal(struct {
		Version uint32 `sshtype:"1"`
	}{3})); err != nil {
		return 0, err
	}
	body, err := p.receive()
	if err != nil {
		return 0, err
	}
	var version struct {
		Version uint32 `sshtype:"2"`
		Rest    []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(body, &version) != nil {
		return 0, fmt.Errorf("%w: what answers there does not speak SFTP; the account's start-up files may print something", errNoSFTP)
	}
	p.greeting = frame(body)
	if !ask || !offers(version.Rest, limitsExtension) {
		return 0, nil
	}
	return p.limits()
}

// offers reports whether an extension is among those of a server.
func offers(extensions []byte, name string) bool {
	var e struct {
		Name, Data string
		Rest       []byte `ssh:"rest"`
	}
	for len(extensions) > 0 && ssh.Unmarshal(extensions, &e) == nil {
		if e.Name == name {
			return true
		}
		extensions = e.Rest
	}
	return false
}

func (p *packets) limits() (int, error) {
	if err := p.send(ssh.Marshal(struct {
		ID   uint32 `sshtype:"200"`
		Name string
	}{0, limitsExtension})); err != nil {
		return 0, err
	}
	body, err := p.receive()
	var reply struct {
		ID                           uint32 `sshtype:"201"`
		Packet, Read, Write, Handles uint64
		Rest                         []byte `ssh:"rest"`
	}
	if err != nil || ssh.Unmarshal(body, &reply) != nil {
		return 0, err
	}
	return int(min(reply.Read, reply.Write, mostPacket)), nil
}

func (p *packets) send(body []byte) error {
	_, err := p.channel.Write(frame(body))
	return err
}

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// receive reads one packet of the greeting.
func (p *packets) receive() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(p.in, length[:]); err != nil {
		return nil, fmt.Errorf("%w: %v", errNoSFTP, err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > mostGreeting {
		return nil, fmt.Errorf("%w: what answers there does not speak SFTP; the account's start-up files may print something", errNoSFTP)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(p.in, body)
	return body, err
}

// Read gives pkg/sftp what the server sends.
func (p *packets) Read(b []byte) (int, error) {
	if len(p.greeting) > 0 {
		n := copy(b, p.greeting)
		p.greeting = p.greeting[n:]
		return n, nil
	}
	if p.inLeft == 0 {
		if err := p.arrives(); err != nil {
			return 0, err
		}
	}
	n, err := p.in.Read(b[:min(len(b), p.inLeft)])
	p.inLeft -= n
	return n, err
}

// arrives looks at the head of the next packet.
func (p *packets) arrives() error {
	head, err := p.in.Peek(5)
	if err != nil {
		return err
	}
	p.inLeft = 4 + int(binary.BigEndian.Uint32(head))
	hooks := p.hooks.Load()
	switch head[4] {
	case fxpHandle:
		if hooks != nil {
			hooks.opened()
		}
	case fxpName:
		if n := p.names.Add(int64(p.inLeft)); hooks != nil {
			hooks.named(n)
		}
	}
	return nil
}

// Write takes from pkg/sftp what the server is sent. A packet begins with a
// write of its own, and all but the data of a file stand in that.
func (p *packets) Write(b []byte) (int, error) {
	n, closes := len(b), false
	if p.outLeft == 0 && n > 4 {
		p.outLeft = 4 + int(binary.BigEndian.Uint32(b))
		switch {
		case b[4] == fxpInit && !p.greeted:
			p.greeted, p.outLeft = true, 0
			return n, nil
		case b[4] == fxpOpen && p.mode.Load() != 0:
			p.outLeft = 0
			_, err := p.channel.Write(withMode(b, p.mode.Load()))
			return n, err
		}
		closes = b[4] == fxpClose
	}
	p.outLeft -= n
	_, err := p.channel.Write(b)
	if closing := p.closing.Load(); closes && closing != nil {
		(*closing)()
	}
	return n, err
}

// withMode puts a mode into the packet that makes a new file.
func withMode(b []byte, mode uint32) []byte {
	var open struct {
		ID          uint32 `sshtype:"3"`
		Path        string
		Flags, Have uint32
	}
	if ssh.Unmarshal(b[4:], &open) != nil || open.Flags&fxfCreateNew != fxfCreateNew {
		return b
	}
	return frame(ssh.Marshal(struct {
		ID                uint32 `sshtype:"3"`
		Path              string
		Flags, Have, Mode uint32
	}{open.ID, open.Path, open.Flags, fxaPermissions, mode}))
}

// Close is called when pkg/sftp cannot make sense of the session any more.
func (p *packets) Close() error {
	p.closed()
	return nil
}
