import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorReport } from '../src/errors.ts'
import {
  errorFromSocket,
  PeerError,
  ProtocolError,
  plainText,
  protocolErrors,
  textCharsMax,
} from '../src/index.ts'

/** An error as Node makes it. */
function nodeError(code: string, message = '', more: object = {}): Error {
  return Object.assign(new Error(message), { code, ...more })
}

test('every error has a message and a hint that stand in one line', () => {
  for (const [code, { message, hint }] of Object.entries(protocolErrors)) {
    assert.match(code, /^[a-z][a-z0-9-]*$/)
    assert.equal(plainText(message), message)
    assert.equal(plainText(hint), hint)
    assert.match(hint, /^[A-Z`].*\.$/)
  }
})

// As Node 24.21 with OpenSSL 3.5 gave them on loopback.
const seen: [Error, string][] = [
  [nodeError('ERR_SSL_WRONG_VERSION_NUMBER', 'wrong version number'), 'not-tls'],
  [nodeError('ERR_SSL_HTTP_REQUEST', 'http request'), 'not-tls'],
  [nodeError('ERR_SSL_UNSUPPORTED_PROTOCOL', 'unsupported protocol'), 'tls-version'],
  [nodeError('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'x:SSL alert number 70\n'), 'tls-version'],
  [nodeError('ERR_SSL_NO_APPLICATION_PROTOCOL', 'no application protocol'), 'application-protocol'],
  [
    nodeError('ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL', 'x:SSL alert number 120\n'),
    'application-protocol',
  ],
  [nodeError('ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE', 'peer did not return'), 'certificate-missing'],
  [nodeError('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'x:SSL alert number 116\n'), 'certificate-missing'],
  [nodeError('ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'x:SSL alert number 48\n'), 'certificate-untrusted'],
  [nodeError('ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE', 'x:SSL alert number 42\n'), 'certificate-untrusted'],
  [nodeError('ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED', 'x:SSL alert number 45\n'), 'certificate-expired'],
  [nodeError('ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', 'x:SSL alert number 45\n'), 'certificate-expired'],
  [nodeError('ERR_SSL_SSL/TLS_ALERT_UNSUPPORTED_CERTIFICATE', 'x:SSL alert number 43\n'), 'wrong-role'],
  [nodeError('ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE', 'x:SSL alert number 40\n'), 'tls-failed'],
  [nodeError('ERR_SSL_LENGTH_TOO_SHORT', 'length too short'), 'tls-failed'],
  [nodeError('ERR_TLS_HANDSHAKE_TIMEOUT', 'TLS handshake timeout'), 'handshake-timeout'],
  [nodeError('ECONNRESET', 'socket hang up'), 'connection-lost'],
  [nodeError('ECONNRESET', 'read ECONNRESET', { syscall: 'read' }), 'connection-lost'],
  [nodeError('EPIPE', 'write EPIPE', { syscall: 'write' }), 'connection-lost'],
  [nodeError('ETIMEDOUT', 'read ETIMEDOUT', { syscall: 'read' }), 'connection-lost'],
  [nodeError('EHOSTUNREACH', 'read EHOSTUNREACH', { syscall: 'read' }), 'connection-lost'],
  [nodeError('ERR_STREAM_DESTROYED', 'destroyed'), 'connection-lost'],
  [
    nodeError('ECONNREFUSED', 'connect ECONNREFUSED 192.0.2.1:7911', { syscall: 'connect' }),
    'connection-refused',
  ],
  [
    nodeError('ETIMEDOUT', 'connect ETIMEDOUT 192.0.2.1:7911', { syscall: 'connect' }),
    'connection-unreachable',
  ],
  [nodeError('EHOSTUNREACH', 'connect EHOSTUNREACH', { syscall: 'connect' }), 'connection-unreachable'],
  [nodeError('ENETUNREACH', 'connect ENETUNREACH', { syscall: 'connect' }), 'connection-unreachable'],
  [nodeError('ENOTFOUND', 'getaddrinfo ENOTFOUND x.invalid', { syscall: 'getaddrinfo' }), 'name-not-found'],
  [nodeError('EAI_AGAIN', 'getaddrinfo EAI_AGAIN x', { syscall: 'getaddrinfo' }), 'name-not-found'],
  [nodeError('ABORT_ERR', 'The operation was aborted'), 'cancelled'],
]

for (const [error, code] of seen) {
  const { syscall = '', code: nodeCode } = error as NodeJS.ErrnoException
  test(`${nodeCode} ${syscall || error.message.trim()} is ${code}, with its cause`, () => {
    const mapped = errorFromSocket(error)
    assert.equal(mapped.code, code)
    assert.equal(mapped.cause, error)
    assert.notEqual(mapped.message, '')
  })
}

test('when all addresses of a name refuse, the first is named', () => {
  const refused = [1, 2].map((n) => nodeError('ECONNREFUSED', `connect ECONNREFUSED 192.0.2.${n}:7911`))
  const mapped = errorFromSocket(Object.assign(new AggregateError(refused), { code: 'ECONNREFUSED' }))
  assert.equal(mapped.code, 'connection-refused')
  assert.equal(mapped.message, 'connect ECONNREFUSED 192.0.2.1:7911')
})

test('text of the other side cannot break a line, move the cursor, or turn the direction', () => {
  const { message } = new PeerError({
    code: 'busy',
    message: 'a\r\nb\u0000c\u0085d\u009be\u2028f\u202eg\u2066h\ud800i',
  })
  assert.equal(message, 'a\ufffd\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg\ufffdh\ufffdi')
})

test('text is cut at its limit, and says so', () => {
  assert.equal(plainText('x'.repeat(textCharsMax)), 'x'.repeat(textCharsMax))
  assert.equal(plainText('x'.repeat(textCharsMax + 1)), `${'x'.repeat(textCharsMax - 1)}…`)
})

test('what is reported of an error of our own leaves out everything but that there was one', () => {
  assert.deepEqual(errorReport(new Error('secret')), { code: 'internal', ...protocolErrors.internal })
  const error = new ProtocolError('busy', 'by main', { hint: 'wait', cause: new Error('secret') })
  assert.deepEqual(errorReport(error), { code: 'busy', message: 'by main', hint: 'wait' })
})
