import smtplib, ssl, sys

mode, port, user, password, sender, to, file = sys.argv[1:]
tls = ssl.create_default_context()
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
if mode == "implicit":
    s = smtplib.SMTP_SSL("127.0.0.1", int(port), context=tls)
else:
    s = smtplib.SMTP("127.0.0.1", int(port))
with s:
    if mode == "starttls":
        s.starttls(context=tls)
    if mode != "clear":
        s.login(user, password)
    with open(file, "rb") as f:
        s.sendmail(sender, [to], f.read(), mail_options=["BODY=8BITMIME"])
