'use strict'
// Two servers with npm's smtp-server, and where their mail arrives: /judge/mail,
// with sender and recipient in two lines before the message.

const fs = require('node:fs')
const { SMTPServer } = require('smtp-server')

let number = 0

function refusal(code, text) {
    const err = new Error(text)
    err.responseCode = code
    return err
}

// Succeeds the first time for each address.
function deferred(address) {
    try {
        fs.mkdirSync('/judge/deferred/' + address)
        return true
    } catch {
        return false
    }
}

function keep(from, to, content) {
    const name = `${process.pid}.${Date.now()}.${++number}`
    const trace = `Received: by smtp-server with number ${name}\r\n`
    fs.writeFileSync('/judge/mail/tmp.' + name, Buffer.concat([Buffer.from(`${from}\n${to}\n${trace}`), content]))
    fs.renameSync('/judge/mail/tmp.' + name, '/judge/mail/mail.' + name)
}

function serve(address, options) {
    const server = new SMTPServer({
        cert: fs.readFileSync('/judge/cert.pem'),
        key: fs.readFileSync('/judge/key.pem'),
        authOptional: true,
        disabledCommands: ['AUTH'],
        disableReverseLookup: true,
        size: 23000000,
        maxClients: 4,
        ...options,
        onRcptTo(to, session, done) {
            const word = to.address.split('-')[0]
            if (!['good', 'later', 'data'].includes(word)) return done(refusal(550, 'there is no such user'))
            if (word === 'later' && deferred(to.address)) return done(refusal(450, 'greylisted, come back later'))
            done()
        },
        onData(stream, session, done) {
            const chunks = []
            stream.on('data', (chunk) => chunks.push(chunk))
            stream.on('end', () => {
                const recipients = session.envelope.rcptTo.map((to) => to.address)
                if (stream.sizeExceeded) return done(refusal(552, 'too large'))
                if (recipients.some((to) => to.startsWith('data-') && deferred(to))) return done(refusal(451, 'not now'))
                for (const to of recipients) keep(session.envelope.mailFrom.address, to, Buffer.concat(chunks))
                done()
            })
        },
    })
    server.on('error', (err) => console.error(err.message))
    server.listen(25, address)
}

serve('127.0.5.1', { name: 'mx.smtpserver1.example' })
serve('127.0.5.2', { name: 'mx.smtpserver2.example', hidePIPELINING: true, hide8BITMIME: true, hideSMTPUTF8: true })
