package adminapi

import (
	"context"
	"net"
	"strconv"
	"syscall"

	"github.com/stsrelay/stsrelay/relay/operator"
)

type peerKey struct{}

// withPeer remembers the user at the other end of a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	actor := operator.Actor{Via: "socket"}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { // without it the user is not known
				if uid, ok := peerUID(int(fd)); ok {
					actor.User = "uid " + strconv.FormatUint(uint64(uid), 10)
				}
			})
		}
	}
	return context.WithValue(ctx, peerKey{}, actor)
}

// actorOf returns who sends a request.
func actorOf(ctx context.Context) operator.Actor {
	actor, _ := ctx.Value(peerKey{}).(operator.Actor)
	return actor
}
