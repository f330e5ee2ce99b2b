package main

import (
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func (a *app) queueCat() *cobra.Command {
	return &cobra.Command{
		Use: "cat ID", Short: "Print the content of a message", Args: oneArg("ID"),
		Example: "  stsrelay queue cat 01KAR7M3 > message.eml",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := messagePath(args[0])
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			body, err := client.Open(cmd.Context(), http.MethodGet, path+"/content", nil, nil)
			if err != nil {
				return err
			}
			defer body.Close()
			to := a.raw // octet for octet, into a file or a pipe
			if a.colour() {
				to = a.out
			}
			_, err = io.Copy(to, body)
			return err
		},
	}
}
