import { open } from 'node:fs/promises'
import { namePattern, passwordCharsMax } from '@central-backup/protocol'
import * as z from 'zod'
import { BundleError } from './errors.ts'

/** What `backup-server host add` gives a host to carry home: who it is, and what it needs to prove that. */
export interface Bundle {
  name: string
  port: number
  /** PEM: the certificate of this host, its private key (PKCS#8), and the certificate of the authority. */
  certificate: string
  key: string
  authority: string
  /** What the server will show. Only its hash is kept. */
  password: string
}

const bundleBytesMax = 1024 * 1024

const pem = (label: string) =>
  z
    .string()
    .startsWith(`-----BEGIN ${label}-----\n`)
    .max(64 * 1024)

const bundleSchema = z.strictObject({
  format: z.literal('central-backup-bundle'),
  version: z.literal(1),
  name: z.string().regex(namePattern),
  port: z.int().min(1).max(65_535),
  certificate: pem('CERTIFICATE'),
  key: pem('PRIVATE KEY'),
  authority: pem('CERTIFICATE'),
  password: z.string().min(1).max(passwordCharsMax),
})

/**
 * Reads a bundle, format version 1: one JSON object. `exposed` tells that others could read the file where it lay. Throws
 * `BundleError`; its messages never repeat what is in the file.
 */
export async function readBundle(file: string): Promise<{ bundle: Bundle; exposed: boolean }> {
  const { text, exposed } = await readText(file)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw notABundle(file, 'it is not JSON')
  }
  const { format, version } = (value ?? {}) as { format?: unknown; version?: unknown }
  if (format === 'central-backup-bundle' && version !== 1) {
    throw new BundleError(
      `The bundle ${file} has version ${Number(version)}; this backup-host knows version 1`,
      {
        hint: 'Update backup-host, so that it is not older than the server.',
      },
    )
  }
  const result = bundleSchema.safeParse(value)
  if (result.success) return { bundle: result.data, exposed }
  const keys = result.error.issues.map(({ path }) => path.join('.') || 'its keys')
  throw notABundle(file, `wrong or missing: ${[...new Set(keys)].join(', ')}`)
}

async function readText(file: string): Promise<{ text: string; exposed: boolean }> {
  try {
    await using handle = await open(file, 'r')
    const stats = await handle.stat()
    if (!stats.isFile() || stats.size > bundleBytesMax)
      throw notABundle(file, 'it is no file, or too large for one')
    return { text: await handle.readFile('utf8'), exposed: (stats.mode & 0o077) !== 0 }
  } catch (cause) {
    if (cause instanceof BundleError) throw cause
    const code = (cause as NodeJS.ErrnoException).code
    const message = code === 'ENOENT' ? `There is no file ${file}` : `Cannot read ${file} (${code})`
    throw new BundleError(message, { cause, hint: 'Give the bundle that `backup-server host add` wrote.' })
  }
}

function notABundle(file: string, why: string): BundleError {
  return new BundleError(`${file} is not a bundle: ${why}`, {
    hint: 'Carry over the bundle that `backup-server host add` wrote, whole and unchanged.',
  })
}
