//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// marker tells the program that it runs in a namespace of its own.
const marker = "LOADGEN_NAMESPACE=1"

// ownNetwork lets a user who is not root bind ports 25 and 443 of loopback
// addresses: the program is started once more in a user and a network namespace
// of its own, where it may. It returns in the one that is to go on.
func ownNetwork() error {
	if os.Getenv("LOADGEN_NAMESPACE") != "" {
		return testnet.LoopbackUp()
	}
	if os.Getuid() == 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), marker)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err = cmd.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(ended.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("ports 25 and 443 are needed, and this user may have no network namespace (run as root): %w", err)
	}
	os.Exit(0)
	return nil
}
