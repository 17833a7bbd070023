/**
 * A server of the right CA that does not keep to the protocol. Each break of a rule ends the session with its own code, is
 * no bug of the agent, and the agent goes on serving.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import type { Credentials, Message, MessageOf } from '@central-backup/protocol'
import { Packr } from 'msgpackr'
import { serverCredentials } from './harness/certificates.ts'
import { bytesOf, dialTls, msgpackText, provoke, rawMessage } from './harness/dialer.ts'
import { helloOf, requestOf, runInProcess } from './harness/in-process-run.ts'
import { Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

describe('a server that breaks the rules of the conversation', () => {
  let site: Site
  let host: TestHost
  let server: Credentials
  let hello: Message
  let password: string
  before(async () => {
    site = await Site.create()
    host = await site.addHost('web1')
    writeTree(site.tree('web1'), { 'etc/motd': 'hello\n', 'srv/data': randomBytes(50_000) })
    await host.start()
    server = serverCredentials(site)
    hello = helloOf(site)
    password = readFileSync(host.secret, 'utf8').trim()
  })
  after(() => site?.[Symbol.asyncDispose]())

  /** The bytes of msgpack, and strings as it has them. */
  const map = (...parts: (string | Buffer | number[])[]) =>
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? msgpackText(part) : Buffer.from(part))))

  /** What is said after the TLS handshake, in the order in which it is said. */
  interface Break {
    name: string
    code: string
    /** How far the conversation had come: 0 nothing said, 1 greeted, 2 logged in. */
    after: 0 | 1 | 2
    bytes: () => Buffer
  }

  const authenticate = (text: string): Message => ({ type: 'authenticate', password: text })
  const request = (fields: Partial<MessageOf<'backup'>> = {}) => requestOf(host, fields)

  const breaks: Break[] = [
    {
      name: 'a message of 4 GiB',
      code: 'message-too-large',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(9), 0xffffffff),
    },
    {
      name: 'a hello over its limit',
      code: 'message-too-large',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(9), 64 * 1024 + 1),
    },
    {
      name: 'a message of an unknown type',
      code: 'message-unknown',
      after: 0,
      bytes: () => rawMessage(99, Buffer.alloc(9)),
    },
    {
      name: 'a message of type 0',
      code: 'message-unknown',
      after: 0,
      bytes: () => rawMessage(0, Buffer.alloc(9)),
    },
    {
      name: 'a message without payload',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(0)),
    },
    {
      name: 'the password before hello',
      code: 'message-out-of-turn',
      after: 0,
      bytes: () => bytesOf(authenticate(password)),
    },
    {
      name: 'a request before hello',
      code: 'message-out-of-turn',
      after: 0,
      bytes: () => bytesOf(request()),
    },
    {
      name: 'another version',
      code: 'version-unsupported',
      after: 0,
      bytes: () => rawMessage(1, map([0x81], 'protocol', [2])),
    },
    {
      name: 'the name of another server',
      code: 'wrong-role',
      after: 0,
      bytes: () => bytesOf({ ...hello, name: 'somebody' } as Message),
    },
    {
      name: 'that it is a host',
      code: 'wrong-role',
      after: 0,
      bytes: () => bytesOf({ ...hello, role: 'host' } as Message),
    },
    {
      name: 'a map of four billion pairs',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('dfffffffff00', 'hex')),
    },
    {
      name: 'an array of four billion values',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('ddffffffff00', 'hex')),
    },
    {
      name: 'a string of 4 GiB',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81dbffffffff00', 'hex')),
    },
    {
      name: 'arrays in arrays, sixty thousand deep',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(60_000, 0x91)),
    },
    {
      name: 'maps in maps, thirty thousand deep',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(60_000, Buffer.from('81a161', 'hex'))),
    },
    {
      name: 'sixty thousand empty arrays',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, map([0x81, 0xa1, 0x61, 0xdc, 0xea, 0x60], Buffer.alloc(60_000, 0x90))),
    },
    {
      name: 'an extension',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161c70101ff', 'hex')),
    },
    {
      name: 'a record, as msgpackr has them',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161d4724091a161', 'hex')),
    },
    {
      name: 'a time',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161d6ff00000000', 'hex')),
    },
    {
      name: 'a fraction',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161cb3ff8000000000000', 'hex')),
    },
    {
      name: 'byte 0xc1',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161c1', 'hex')),
    },
    {
      name: 'a key that stands twice',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('82a16101a16102', 'hex')),
    },
    {
      name: 'the key __proto__',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, map([0x81], '__proto__', [0x80])),
    },
    {
      name: 'a string that is not UTF-8',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a2c32801', 'hex')),
    },
    {
      name: 'bytes behind the map',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('8000', 'hex')),
    },
    {
      name: 'noise',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('c3'.repeat(500), 'hex')),
    },
    { name: 'hello twice', code: 'message-out-of-turn', after: 1, bytes: () => bytesOf(hello) },
    {
      name: 'a request without the password',
      code: 'message-out-of-turn',
      after: 1,
      bytes: () => bytesOf(request()),
    },
    {
      name: 'a password that is no string',
      code: 'message-malformed',
      after: 1,
      bytes: () => rawMessage(2, map([0x81], 'password', [0xc0])),
    },
    {
      name: 'a password of 60 KB',
      code: 'message-malformed',
      after: 1,
      bytes: () =>
        rawMessage(2, map([0x81], 'password', Buffer.from([0xda, 0xea, 0x60]), Buffer.alloc(60_000, 'x'))),
    },
    {
      name: 'an empty password',
      code: 'authentication-failed',
      after: 1,
      bytes: () => bytesOf(authenticate('')),
    },
    {
      name: 'the password with a space behind it',
      code: 'authentication-failed',
      after: 1,
      bytes: () => bytesOf(authenticate(`${password} `)),
    },
    {
      name: 'a request for another host',
      code: 'wrong-host',
      after: 2,
      bytes: () => bytesOf(request({ host: 'web2' })),
    },
    {
      name: 'a message of the agent',
      code: 'message-out-of-turn',
      after: 2,
      bytes: () => bytesOf({ type: 'archive-name', name: 'x' }),
    },
    {
      name: 'a request that says how long to wait, and how many threads to use',
      code: 'message-malformed',
      after: 2,
      bytes: () => {
        const { type: _, ...fields } = request()
        const packr = new Packr({ useRecords: false, variableMapSize: true })
        return rawMessage(5, packr.pack({ ...fields, timeoutMs: 86_400_000, threads: 1000 }))
      },
    },
    {
      name: 'a request without paths',
      code: 'message-malformed',
      after: 2,
      bytes: () => rawMessage(5, map([0x81], 'paths', [0x90])),
    },
    {
      name: 'a request of a megabyte of nothing',
      code: 'message-malformed',
      after: 2,
      bytes: () => rawMessage(5, map([0x81], 'paths', [0xdd, 0, 0x0f, 0, 0], Buffer.alloc(0x0f0000, 0x90))),
    },
    {
      name: 'a request at a time that no archive can have',
      code: 'request-invalid',
      after: 2,
      bytes: () => bytesOf(request({ startedAtMs: Number.MAX_SAFE_INTEGER })),
    },
    {
      name: 'the login again',
      code: 'message-out-of-turn',
      after: 2,
      bytes: () => bytesOf(authenticate(password)),
    },
    {
      name: 'a second request in the middle of the first',
      code: 'message-out-of-turn',
      after: 2,
      bytes: () => Buffer.concat([bytesOf(request()), bytesOf(request())]),
    },
  ]

  for (const { name, code, after: stage, bytes } of breaks) {
    test(`${name}: refused as ${code}`, async () => {
      const logged = host.agent.log.length
      const socket = await dialTls(host.port, server)
      const opening = [[], [bytesOf(hello)], [bytesOf(hello), bytesOf(authenticate(password))]][stage]!
      assert.equal(await provoke(socket, ...opening, bytes()), code)
      const line = await host.agent.untilLogged((one) => one.code !== undefined, logged)
      assert.equal(line.code, code)
      assert.equal(line.stack, undefined, 'no bug of the agent')
      await runInProcess(host)
    })
  }

  test('no password of any attempt stands in the log', () => {
    assert.ok(!host.agent.stderr.includes(password))
  })
})
