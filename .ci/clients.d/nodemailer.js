const [mode, port, user, pass, from, to, subject, text, kind, file] = process.argv.slice(2);
const fs = require("fs");
const content = fs.readFileSync(text, "utf8");
const transport = require("nodemailer").createTransport({
  host: "127.0.0.1", port: Number(port), secure: mode === "implicit", requireTLS: mode === "starttls", ignoreTLS: mode === "clear",
  tls: { rejectUnauthorized: false }, auth: mode === "clear" ? undefined : { user, pass },
});
transport.sendMail({
  from, to, subject, [kind === "long" ? "html" : "text"]: content,
  attachments: kind === "attach" ? [{ path: file }] : [],
}).then(() => transport.close(), (e) => { console.error(e); process.exit(1); });
