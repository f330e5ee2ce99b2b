'use strict'
// Which recipients there are, and where their mail arrives: /judge/mail, with
// sender and recipient in two lines before the message.

const fs = require('node:fs')
const { Writable } = require('node:stream')

// The limit of messages in a session.
const most = 20
let number = 0

const address = (path) => path.format().replace(/^<|>$/g, '')
const plain = (connection) => connection.local.ip === '127.0.3.2'

// Succeeds the first time for each address.
function deferred(recipient) {
    try {
        fs.mkdirSync('/judge/deferred/' + recipient)
        return true
    } catch {
        return false
    }
}

exports.hook_capabilities = function (next, connection) {
    if (plain(connection)) {
        connection.capabilities = connection.capabilities.filter((c) => c !== 'PIPELINING' && c !== 'SMTPUTF8')
    }
    next()
}

exports.hook_mail = function (next, connection) {
    connection.notes.count = (connection.notes.count || 0) + 1
    if (connection.notes.count > most) return next(DENYSOFTDISCONNECT, 'too many messages in this session')
    next()
}

exports.hook_rcpt = function (next, connection, [rcpt]) {
    const word = rcpt.user.split('-')[0]
    if (!['good', 'later', 'data'].includes(word)) return next(DENY, 'there is no such user')
    if (word === 'later' && deferred(address(rcpt))) return next(DENYSOFT, 'greylisted, come back later')
    next(OK)
}

exports.hook_data = function (next, connection) {
    for (const rcpt of connection.transaction.rcpt_to) {
        if (rcpt.user.startsWith('data-') && deferred(address(rcpt))) return next(DENYSOFT, 'not now')
    }
    next()
}

exports.hook_queue = function (next, connection) {
    const chunks = []
    const keep = new Writable({
        write(chunk, _, done) {
            chunks.push(chunk)
            done()
        },
    })
    const transaction = connection.transaction
    keep.on('finish', () => {
        for (const rcpt of transaction.rcpt_to) {
            const name = `${process.pid}.${Date.now()}.${++number}`
            const head = Buffer.from(`${address(transaction.mail_from)}\n${address(rcpt)}\n`)
            fs.writeFileSync('/judge/mail/tmp.' + name, Buffer.concat([head, ...chunks]))
            fs.renameSync('/judge/mail/tmp.' + name, '/judge/mail/mail.' + name)
        }
        next(OK)
    })
    transaction.message_stream.pipe(keep)
}
