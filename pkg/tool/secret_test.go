package tool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

type secretArgs struct {
	Password Secret `json:"password,omitempty"`
}

// However a secret is printed, by itself or inside of something, it does not
// show.
func TestSecretShowsNowhere(t *testing.T) {
	const word = "canary-31"
	secret := NewSecret(word)
	host := &AdHoc{Hostname: "web9", Password: secret}
	target := Target{Alias: "a", AdHoc: host}
	plan := Plan{Scope: Scope{Opening: &Opening{AdHoc: host}}, Steps: []Step{OpenConnection()}}
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("secret", "secret", secret, "host", host, "target", target)
	slog.New(slog.NewTextHandler(&out, nil)).Info("secret", "secret", secret, "host", host, "target", target)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb, secret, host, target, *host)
	}
	for _, v := range []any{secret, host, target, plan, secretArgs{secret}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	for _, form := range []string{word, fmt.Sprintf("%x", word), fmt.Sprintf("%X", word), fmt.Sprint([]byte(word))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is in %s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), "[secret]") {
		t.Error("that there is one does not show")
	}
}

func TestSecretIsWiped(t *testing.T) {
	secret := NewSecret("canary-31")
	held, text := secret, secret.held.text
	secret.Wipe()
	if !held.IsZero() || held.Reveal() != "" || !bytes.Equal(text, make([]byte, len(text))) {
		t.Errorf("left: %q", text)
	}
	Secret{}.Wipe()
	if !NewSecret("").IsZero() || !NewSecret("a").Equal(NewSecret("a")) || NewSecret("a").Equal(NewSecret("b")) || NewSecret("a").Equal(Secret{}) {
		t.Error("secrets do not compare")
	}
}

// What is wrong with a secret is said without a word of it.
func TestDecodeSecret(t *testing.T) {
	var args secretArgs
	if err := Decode(json.RawMessage(`{"password":" p\u00e4ss \n"}`), &args); err != nil || args.Password.Reveal() != " päss \n" {
		t.Errorf("%q, %v", args.Password.Reveal(), err)
	}
	for _, raw := range []string{`{"password":31313131}`, `{"password":["31313131"]}`, `{"password":"31313131\ud800"}`, `{"password":"` + strings.Repeat("31", 1024) + `"}`} {
		err := Decode(json.RawMessage(raw), &secretArgs{})
		if err == nil || strings.Contains(err.Error(), "31") || !strings.Contains(err.Error(), `"password"`) {
			t.Errorf("%.40s: %v", raw, err)
		}
	}
	schema := Schema(reflect.TypeFor[secretArgs]())["properties"].(map[string]any)["password"].(map[string]any)
	if schema["type"] != "string" || schema["format"] != "password" {
		t.Errorf("schema: %v", schema)
	}
}

// The digest says that there is a password, and nothing of it.
func TestDigestKnowsOfAPassword(t *testing.T) {
	digest := func(password string) string {
		return Digest(Target{AdHoc: &AdHoc{Hostname: "h", Password: NewSecret(password)}}, []Step{OpenConnection()})
	}
	if digest("a") != digest("b") || digest("a") == digest("") {
		t.Error("digests do not say whether there is a password, or say more")
	}
}
