import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { passwordCharsMax } from '@central-backup/protocol'
import { UsageError } from './errors.ts'

/** Where passwords come from: standard input, which may be a terminal, and where to ask. */
export interface PasswordInput {
  stdin: NodeJS.ReadStream
  stderr: { write(text: string): unknown }
}

/** Asks twice, and shows nothing, on a terminal; else reads the first line. Throws `UsageError` where there is none. */
export async function readPassword({ stdin, stderr }: PasswordInput): Promise<string> {
  if (!stdin.isTTY) return readFirstLine(stdin)
  const password = await askHidden('Password: ', stdin, stderr)
  const again = await askHidden('The same again: ', stdin, stderr)
  if (password !== again) throw new UsageError('The two are not the same')
  return password
}

async function readFirstLine(stdin: NodeJS.ReadStream): Promise<string> {
  // In bytes, a character has four at most.
  const bytesMax = 4 * passwordCharsMax + 2
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    bytes += chunk.byteLength
    if (bytes > bytesMax || chunk.includes('\n')) break
  }
  const [line] = Buffer.concat(chunks).toString('utf8').split(/\r?\n/)
  if (line) return line
  throw new UsageError('There is no password on standard input', {
    hint: 'Run it on a terminal, or give the password on standard input, never as an argument, where others can see it.',
  })
}

async function askHidden(
  question: string,
  stdin: NodeJS.ReadStream,
  stderr: PasswordInput['stderr'],
): Promise<string> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: stdin, output: nowhere, terminal: true, historySize: 0 })
  const cancelled = new AbortController()
  lines.once('SIGINT', () => cancelled.abort())
  lines.once('close', () => cancelled.abort())
  stderr.write(question)
  try {
    return await lines.question('', { signal: cancelled.signal })
  } catch (cause) {
    throw new UsageError('No password was given', { cause })
  } finally {
    stderr.write('\n')
    lines.close()
  }
}
