package main

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func TestUserHash(t *testing.T) {
	r := command(t, "secret\n", "user", "hash")
	if r.status != 0 || bcrypt.CompareHashAndPassword([]byte(strings.TrimSpace(r.out)), []byte("secret")) != nil {
		t.Errorf("%+v", r)
	}
	if r = command(t, "\n", "user", "hash"); r.status != 1 {
		t.Errorf("an empty password: %+v", r)
	}
}
