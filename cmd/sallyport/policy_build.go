package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/policy/kit"
)

func policyBuildCommand() *cobra.Command {
	var out, revision string
	var shipped bool
	c := &cobra.Command{
		Use:   "build DIR",
		Short: "Make one file of a bundle, without its tests",
		Long: `Make one file of the bundle in a directory, as it is deployed: policy.custom of
sallyport.yml takes it, and so does everything that takes OPA bundles. Tests stay
out. The revision, which decisions name, is that of .manifest or --revision.

--shipped writes the policies that this program brings instead, so that stock opa
can test against them.

Stock opa makes the same with: opa build --bundle . --ignore '*_test.rego' --revision REV`,
		Example: `  sallyport policy build ./night -o night.tar.gz --revision "$(git rev-parse HEAD)"
  sallyport policy build --shipped -o sallyport.tar.gz`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if shipped == (len(args) == 1) {
				return usageError(errors.New("give a directory, or --shipped"))
			}
			var b kit.Built
			var err error
			if shipped {
				b, err = kit.BuildShipped(c.Context(), out)
			} else {
				b, err = kit.Build(c.Context(), args[0], revision, out)
			}
			if err != nil {
				return err
			}
			return printBuilt(c, "wrote", b)
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "bundle.tar.gz", "file to write")
	c.Flags().StringVarP(&revision, "revision", "r", "", "revision to write into the manifest")
	c.Flags().BoolVar(&shipped, "shipped", false, "build the shipped policies")
	return c
}

func printBuilt(c *cobra.Command, verb string, b kit.Built) error {
	return print(c, b, func(w io.Writer) {
		signed := ""
		if b.Signed {
			signed = ", signed"
		}
		fmt.Fprintf(w, "%s %s: revision %s, roots %s, %s%s\n",
			verb, b.File, b.Revision, strings.Join(b.Roots, " "), counted(len(b.Files), "module"), signed)
	})
}

func keyFlags(c *cobra.Command, key *kit.Key, use string) {
	flags := c.Flags()
	flags.StringVar(&key.File, "key", "", use)
	flags.StringVar(&key.Algorithm, "alg", "RS256", "RS256, ES256, HS256 and their kin")
	flags.StringVar(&key.ID, "key-id", "default", "name of the key where bundles are loaded")
}

// given says that there is a key to sign with or to verify by.
func given(c *cobra.Command, key kit.Key) error {
	if key.File == "" {
		return usageError(errors.New("--key is missing; see " + c.CommandPath() + " --help"))
	}
	return nil
}

func policySignCommand() *cobra.Command {
	var key kit.Key
	var out string
	c := &cobra.Command{
		Use:   "sign BUNDLE",
		Short: "Sign a built bundle",
		Long: `Sign the file that build made, in OPA's own format: a token over the hashes of
all files in it. The key is in a file, because the arguments of a program can be
read by others: a private key in PEM, or for HS256 the secret.

A signature has no date: an old bundle keeps verifying. Let metadata.serial in
.manifest grow, and the gateway takes no lower one back.`,
		Example: `  openssl ecparam -genkey -name prime256v1 -noout -out key.pem
  openssl ec -in key.pem -pubout -out key.pub
  sallyport policy sign night.tar.gz --key key.pem --alg ES256
  sallyport policy verify night.tar.gz --key key.pub --alg ES256`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := given(c, key); err != nil {
				return err
			}
			if out == "" {
				out = args[0]
			}
			b, err := kit.Sign(args[0], out, key)
			if err != nil {
				return err
			}
			return printBuilt(c, "wrote", b)
		},
	}
	keyFlags(c, &key, "file with the private key, or the secret")
	c.Flags().StringVarP(&out, "out", "o", "", "file to write (default: the bundle itself)")
	return c
}

func policyVerifyCommand() *cobra.Command {
	var key kit.Key
	c := &cobra.Command{
		Use:     "verify BUNDLE",
		Short:   "Say whether a bundle is signed by a key",
		Long:    "Say whether a bundle carries a signature by a key and is what was signed.",
		Example: "  sallyport policy verify night.tar.gz --key key.pub --alg ES256",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := given(c, key); err != nil {
				return err
			}
			b, err := kit.Verify(args[0], key)
			if err != nil {
				return err
			}
			return printBuilt(c, "verified", b)
		},
	}
	keyFlags(c, &key, "file with the public key, or the secret")
	return c
}
