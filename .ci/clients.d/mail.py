"""The messages that the clients send, and the comparison of what arrived with
them, by Python's reader of MIME.

    mail.py make FOLDER                the messages, and the texts and files alone
    mail.py count FOLDER               how many messages have arrived
    mail.py compare FOLDER EXPECTED    the subjects in EXPECTED, CLIENT.MODE.CASE
"""
import base64, collections, email, email.policy, glob, os, sys

TEXTS = {
    "plain": "Hello Kurt,\n.\n..\n...\n.hidden\nFrom the copier\nMAIL FROM:<x@example.com>\n\nlast line\n",
    "eight": "Grüße aus Zürich: „zwölf“\n日本語のテキスト\n.\nlast line\n",
    "long": "<html><body>\n<table>" + "<tr><td>cell = value</td></tr>" * 170 + "</table>\n.\n</body></html>\n",
    "attach": "see the attachment\n",
}
FILE = bytes(range(256)) * 400 + b"\r\n.\r\n"
HEADER = "From: Anna <anna@corp.example>\nTo: kurt@sink.example\nSubject: x\nMIME-Version: 1.0\n"


def make(folder):
    for case, text in TEXTS.items():
        with open(f"{folder}/{case}.txt", "w") as f:
            f.write(text)
        kind = "text/html" if case == "long" else "text/plain"
        body = f"Content-Type: {kind}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{text}"
        if case == "attach":
            file = base64.encodebytes(FILE).decode()
            body = ("Content-Type: multipart/mixed; boundary=b\n\n--b\n" + body + "--b\nContent-Type: application/octet-stream\n"
                    "Content-Disposition: attachment; filename=file.bin\nContent-Transfer-Encoding: base64\n\n" + file + "--b--\n")
        with open(f"{folder}/{case}.eml", "w") as f:
            f.write(HEADER + body)
    with open(f"{folder}/file.bin", "wb") as f:
        f.write(FILE)


def lines(text):
    """A text as people see it: how lines end, and how many empty ones stand at its
    end, is the clients' own business."""
    return text.replace("\r\n", "\n").rstrip("\n").split("\n")


def problem(message, mode, case):
    texts = [p for p in message.walk() if p.get_content_maintype() == "text" and not p.get_filename()]
    if len(texts) != 1:
        return f"{len(texts)} texts"
    if lines(texts[0].get_content()) != lines(TEXTS[case]):
        return f"the text is {texts[0].get_content()[:400]!r}"
    files = [p.get_payload(decode=True) for p in message.walk() if p.get_filename()]
    if files != ([FILE] if case == "attach" else []):
        return f"files of {[len(f) for f in files]} octets"
    if "anna@corp.example" not in message["From"] or not message["Date"] or not message["Message-ID"]:
        return "a field of the header is missing"
    ours = [r for r in message.get_all("Received", []) if "by relay.corp.example with" in " ".join(r.split())]
    if len(ours) != 1 or ("with ESMTPSA" in " ".join(ours[0].split())) != (mode != "clear"):
        return f"it came by {ours}"
    return ""


def compare(folder, expected):
    arrived, failures = collections.defaultdict(list), 0
    for name in glob.glob(folder + "/*.eml"):
        with open(name, "rb") as f:
            message = email.message_from_binary_file(f, policy=email.policy.default)
        arrived[message["Subject"]].append(message)
    want = open(expected).read().split()
    clients = collections.defaultdict(lambda: collections.defaultdict(int))
    for subject in want:
        client, mode, case = subject.rsplit(".", 2)
        got = arrived.pop(subject, [])
        why = problem(got[0], mode, case) if len(got) == 1 else f"{len(got)} arrived"
        if why:
            failures += 1
            print(f"{subject}: {why}")
        clients[client][mode] += 1
    for subject in arrived:
        failures += 1
        print(f"{subject}: nobody has sent it")
    for client, modes in clients.items():
        print(f"{client}: " + ", ".join(f"{n} {mode}" for mode, n in modes.items()))
    sys.exit(failures > 0)


if sys.argv[1] == "make":
    make(sys.argv[2])
elif sys.argv[1] == "count":
    print(len(glob.glob(sys.argv[2] + "/*.eml")))
else:
    compare(*sys.argv[2:])
