"""The host behind the relay: takes mail on a port and keeps each message in a
folder, octet for octet. It is as strict as hosts are: it refuses lines over 998
octets and bare newlines."""
import itertools, os, re, socketserver, sys

numbers = itertools.count()


class Session(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.say("220 sink.example ESMTP")
        for line in iter(self.rfile.readline, b""):
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"EHLO":
                self.say("250-sink.example\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 SIZE 100000000")
            elif verb == b"DATA":
                self.say("354 go on")
                self.data()
            elif verb == b"QUIT":
                return self.say("221 bye")
            else:
                self.say("250 ok")

    def data(self):
        content, complaint = [], ""
        for line in iter(self.rfile.readline, b""):
            if line == b".\r\n":
                break
            if len(line) > 1000:
                complaint = "550 maximum allowed line length is 998 octets, got %d" % (len(line) - 2)
            if not line.endswith(b"\r\n") or re.search(rb"\r(?!\n)", line):
                complaint = "550 bare newline"
            content.append(line[1:] if line.startswith(b".") else line)
        else:
            return
        if not complaint:
            name = os.path.join(folder, str(next(numbers)))
            with open(name + ".part", "wb") as f:
                f.write(b"".join(content))
            os.rename(name + ".part", name + ".eml")
        self.say(complaint or "250 taken")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the relay may hang up
            super().handle_error(request, client_address)


folder = sys.argv[2]
Server(("127.0.0.1", int(sys.argv[1])), Session).serve_forever()
