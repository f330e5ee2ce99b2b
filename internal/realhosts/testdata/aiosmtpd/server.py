"""A server with aiosmtpd, and where its mail arrives: /judge/mail, with sender and
recipient in two lines before the message."""

import asyncio
import os
import ssl
import uuid

from aiosmtpd.smtp import SMTP


def deferred(address):
    """Succeeds the first time for each address."""
    try:
        os.mkdir("/judge/deferred/" + address)
        return True
    except FileExistsError:
        return False


def keep(sender, recipient, content):
    name = uuid.uuid4().hex
    with open("/judge/mail/tmp." + name, "wb") as f:
        f.write(f"{sender}\n{recipient}\nReceived: by aiosmtpd with number {name}\r\n".encode())
        f.write(content)
    os.rename("/judge/mail/tmp." + name, "/judge/mail/mail." + name)


class Judge:
    async def handle_RCPT(self, server, session, envelope, address, options):
        word = address.split("-")[0]
        if word not in ("good", "later", "data"):
            return "550 5.1.1 there is no such user"
        if word == "later" and deferred(address):
            return "450 4.2.0 greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        if any(to.startswith("data-") and deferred(to) for to in envelope.rcpt_tos):
            return "451 4.3.0 not now"
        for to in envelope.rcpt_tos:
            keep(envelope.mail_from or "", to, envelope.content)
        return "250 2.0.0 taken"


async def main():
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain("/judge/cert.pem", "/judge/key.pem")
    handler = Judge()

    def session():
        # The limit is of messages in a session.
        return SMTP(handler, hostname="mx.aiosmtpd.example", data_size_limit=23000000, enable_SMTPUTF8=True,
                    tls_context=tls, command_call_limit={"MAIL": 20, "*": 10000})

    server = await asyncio.get_running_loop().create_server(session, "127.0.6.1", 25)
    await server.serve_forever()


asyncio.run(main())
