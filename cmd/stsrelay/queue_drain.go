package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueDrain() *cobra.Command {
	var to, tokenFile, caFile string
	c := &cobra.Command{
		Use: "drain", Short: "Hand all mail to another relay, while both run", Args: noArgs,
		Long: `Hand all mail to another relay, with its queue IDs, attempts, due times and
holds, while both run. Each message is removed here when the other relay has it
on its disk. Mail that comes in meanwhile goes too; the command ends when the
queue is empty, and tries again and again where the other relay does not answer.

The other relay serves its web page over TLS ([admin] http, tls = true) and has
an act_token_file, whose content is in --token-file here. After a crash of
either relay, or where the command was cut off, give the command again: nothing
is taken twice. Mail that is being delivered here is not handed over.`,
		Example: "  stsrelay queue drain --to https://relay2.example.com:8025 \\\n    --token-file /root/relay2.token --ca-file /root/relay2.pem",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" || tokenFile == "" {
				return usageError{fmt.Errorf("drain needs --to and --token-file")}
			}
			r := operator.DrainRequest{To: to}
			var err error
			if r.Token, err = config.ReadSecret(tokenFile); err != nil {
				return fmt.Errorf("--token-file: %s %w", tokenFile, err)
			}
			if caFile != "" {
				pem, err := os.ReadFile(caFile)
				if err != nil {
					return fmt.Errorf("--ca-file: %w", err)
				}
				r.Authorities = string(pem)
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			said := time.Time{}
			return client.Drain(cmd.Context(), r, func(p operator.DrainProgress) {
				switch {
				case a.json:
					_ = a.printJSON(p)
				case p.Done && p.Error == "":
					fmt.Fprintf(a.out, "handed over %s to %s, none is left\n", human.Plural(p.Handed, "message"), to)
				case p.Error != "" || time.Since(said) > 2*time.Second:
					said = time.Now()
					line := fmt.Sprintf("handed over %d, %d left", p.Handed, p.Left)
					if p.Error != "" {
						line += ": " + p.Error
					}
					fmt.Fprintln(a.err, line)
				}
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", "the other relay, https://HOST:PORT")
	c.Flags().StringVar(&tokenFile, "token-file", "", "a file with the token to act of the other relay")
	c.Flags().StringVar(&caFile, "ca-file", "", "trust this authority, or this very certificate of the other relay (PEM)")
	return c
}
