/** What is backed up in tests: files with content that can be told apart and made again. */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Bytes that do not compress, always the same for the same `seed`. */
export function noise(bytes: number, seed: string): Buffer {
  return createHash('shake256', { outputLength: bytes }).update(seed).digest()
}

/** Bytes that compress well, always the same for the same `seed`. */
export function prose(bytes: number, seed: string): Buffer {
  const line = `${seed}: the quick brown fox jumps over the lazy dog, and so on, and on.\n`
  return Buffer.alloc(bytes, line)
}

/** Writes files below `folder`, making the folders on the way. */
export function writeTree(folder: string, files: Readonly<Record<string, string | Uint8Array>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), content)
  }
}

/** Some `megabytes`, half of which compress: a few large files and many small ones. */
export function fillTree(folder: string, megabytes: number): void {
  const half = (megabytes * 1024 * 1024) / 2
  const files: Record<string, Buffer> = {}
  for (let index = 0; index < 3; index++) {
    files[`large/noise-${index}.bin`] = noise(Math.floor(half / 4), `noise ${index}`)
    files[`large/prose-${index}.txt`] = prose(Math.floor(half / 4), `prose ${index}`)
  }
  const small = 100
  for (let index = 0; index < small; index++) {
    const make = index % 2 === 0 ? noise : prose
    files[`small/${index % 10}/file-${index}`] = make(Math.floor(half / 2 / small), `file ${index}`)
  }
  files['empty/nothing'] = Buffer.alloc(0)
  writeTree(folder, files)
}
