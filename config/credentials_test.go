package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every key that names a file takes one that systemd hands over.
func TestFilesThatSystemdHandsOver(t *testing.T) {
	dir, handed := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "stsrelay.toml")
	content := "[[domain]]\nname = \"a.example\"\nroute = \"b.example\"\nuser = \"u\"\npassword_file = \"${CREDENTIALS_DIRECTORY}/password\"\n" +
		"[admin]\nhttp = \"127.0.0.1:8025\"\ntoken_file = \"token\"\n"
	for name, content := range map[string]string{file: content, filepath.Join(handed, "password"): "secret\n", filepath.Join(dir, "token"): "t\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _, err := Load(file, []string{"CREDENTIALS_DIRECTORY=" + handed})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(handed, "password"); c.Domains[0].PasswordFile != want {
		t.Errorf("password_file is %s, want %s", c.Domains[0].PasswordFile, want)
	}
	if want := filepath.Join(dir, "token"); c.Admin.TokenFile != want {
		t.Errorf("token_file is %s, want %s", c.Admin.TokenFile, want)
	}
	// In a variable, and one that is not there.
	_, _, err = Load("", []string{"STSRELAY_DELIVERY_CA_FILE=${CREDENTIALS_DIRECTORY}/ca", "CREDENTIALS_DIRECTORY=" + handed})
	if err == nil || !strings.Contains(err.Error(), filepath.Join(handed, "ca")) {
		t.Errorf("a file that is not there: %v", err)
	}
	if isFolder(credentialsOfUnit) {
		t.Skip("stsrelay.service runs on this machine")
	}
	_, warnings, err := Load(file, nil)
	want := file + `:5: domain[0].password_file = "` + credentialsOfUnit + `/password": cannot be read`
	if err == nil || !strings.Contains(err.Error(), want) || !warned(warnings, "domain[0].password_file: the variable CREDENTIALS_DIRECTORY is not set") {
		t.Errorf("without the variable: %v, warnings %v\nwant %s", err, warnings, want)
	}
}
