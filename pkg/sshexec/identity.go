package sshexec

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Identities keeps an Ed25519 key for each subject, in a directory that is the
// gateway's alone. A key is made when it is asked for first, whole or not at all,
// and by one of those who ask for it at the same time, in whatever process. Its
// file is called by a digest of the subject, which may be any text, and ends with
// a line that says whose it is.
type Identities struct {
	dir  string
	made func(tool.Identity) error
	mu   sync.Mutex // one key is made at a time
}

// NewIdentities keeps keys in a directory, which need not be there yet. made is
// told of each new one; when it says no, there is none.
func NewIdentities(dir string, made func(tool.Identity) error) *Identities {
	return &Identities{dir: dir, made: made}
}

// Identity is the public half of a subject's key.
func (i *Identities) Identity(subject string) (tool.Identity, error) {
	_, id, err := i.key(subject)
	return id, err
}

// Key is the private key of a subject, as a file has it.
func (i *Identities) Key(subject string) ([]byte, error) {
	text, _, err := i.key(subject)
	return text, err
}

func (i *Identities) key(subject string) ([]byte, tool.Identity, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	path := i.path(subject)
	text, err := readIdentity(path)
	isNew := false
	if errors.Is(err, fs.ErrNotExist) {
		if isNew, err = i.create(path, subject); err == nil {
			text, err = readIdentity(path)
		}
	}
	if err != nil {
		return nil, tool.Identity{}, err
	}
	id, err := identityIn(text, subject)
	if err != nil {
		return nil, tool.Identity{}, fmt.Errorf("%s: %w", path, err)
	}
	if isNew {
		if err := i.made(id); err != nil {
			return nil, tool.Identity{}, errors.Join(fmt.Errorf("a new key is not on record: %w", err), os.Remove(path))
		}
	}
	return text, id, nil
}

func (i *Identities) path(subject string) string {
	sum := sha256.Sum256([]byte(subject))
	return filepath.Join(i.dir, hex.EncodeToString(sum[:]))
}

// create makes a key and puts it in place, unless another process has by then.
func (i *Identities) create(path, subject string) (created bool, err error) {
	text, err := newIdentity(subject)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return false, err
	}
	f, err := os.CreateTemp(i.dir, "new-*") // mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, err
	}
	err = os.Link(f.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, errors.Join(err, syncDir(i.dir))
}

// newIdentity is a file with a new key.
func newIdentity(subject string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "sallyport")
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(block), ownerLine(subject)...), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ownerLine says whose a key is, behind the key, where programs that read keys do
// not look.
func ownerLine(subject string) string { return "subject " + strconv.QuoteToASCII(subject) + "\n" }

// maxIdentity is more than a key and the name of a subject take.
const maxIdentity = 64 << 10

// readIdentity reads a file that nobody else may read. Rights of a group, which a
// volume may have been given as a whole, are taken away.
func readIdentity(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch mode := info.Mode(); {
	case err != nil:
		return nil, err
	case !mode.IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case mode.Perm()&0o007 != 0:
		return nil, fmt.Errorf("%s: mode %04o is open to everybody; remove it, and a new key will be made", path, mode.Perm())
	case mode.Perm()&0o070 != 0:
		if err := f.Chmod(0o600); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, maxIdentity))
}

// identityIn is the public half of a key file, if it is the subject's.
func identityIn(text []byte, subject string) (tool.Identity, error) {
	if !bytes.HasSuffix(text, []byte("\n"+ownerLine(subject))) {
		return tool.Identity{}, fmt.Errorf("the key is not that of %q", subject)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return tool.Identity{}, errors.New("the key cannot be read") // the cause may show some of it
	}
	public := signer.PublicKey()
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
	return tool.Identity{
		Subject: subject, Type: public.Type(), Fingerprint: ssh.FingerprintSHA256(public),
		Line: line + " sallyport:" + plainName(subject),
	}, nil
}

// plainName is a subject as the comment of a key: what might mean something there
// is left out.
func plainName(subject string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("@._-", r)) {
			return r
		}
		return -1
	}, subject)
}
