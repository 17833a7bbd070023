import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { applicationProtocol, protocolErrors } from '../src/index.ts'
import { messageKinds } from '../src/messages.ts'

const page = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8')
const lines = page.split('\n')

for (const { number, type, payloadBytesMax, schema } of messageKinds) {
  test(`docs/protocol.md has ${type} with its number, its limit and its fields`, () => {
    const limit =
      { 65536: '64 KiB', 1048576: '1 MiB' }[payloadBytesMax] ??
      `${payloadBytesMax.toLocaleString('en')} bytes`
    const row = lines.find((line) => line.startsWith(`| ${number} | \`${type}\` |`))
    assert.ok(row?.endsWith(`| ${limit} |`), row)
    const section = page.slice(page.indexOf(`**${number} \`${type}\`**`)).split(/\n\*\*|\n## /)[0]!
    const fields = schema === null ? [] : Object.keys((schema as unknown as { shape: object }).shape)
    for (const field of fields) assert.ok(section.includes(`\`${field}\``), `${type}: ${field}`)
  })
}

test('docs/protocol.md has every error code, and no other', () => {
  const section = page.slice(page.indexOf('## 6.'), page.indexOf('## 7.'))
  const rows = section.split('\n').filter((line) => line.startsWith('| `'))
  const codes = rows.flatMap((row) => [...row.split('|')[1]!.matchAll(/`([^`]+)`/g)].map((match) => match[1]))
  assert.deepEqual(codes.sort(), Object.keys(protocolErrors).sort())
})

test('docs/protocol.md names the application protocol', () => {
  assert.ok(page.includes(`ALPN \`${applicationProtocol}\``))
})
