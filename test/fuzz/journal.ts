/** The input that is being tried, in a file that outlives the process that tries it. */
import { closeSync, openSync, readSync, writeSync } from 'node:fs'

/** Number of the target, number of the input, and its length. */
const headerBytes = 16

export interface JournalEntry {
  target: number
  number: number
  input: Buffer
}

export class JournalWriter {
  readonly #fd: number
  readonly #header = Buffer.alloc(headerBytes)
  #number = 0

  constructor(file: string) {
    this.#fd = openSync(file, 'w')
  }

  write(target: number, input: Buffer): void {
    this.#header.writeUInt32LE(target, 0)
    this.#header.writeUInt32LE(++this.#number >>> 0, 4)
    this.#header.writeUInt32LE(input.length, 8)
    writeSync(this.#fd, input, 0, input.length, headerBytes)
    writeSync(this.#fd, this.#header, 0, headerBytes, 0)
  }
}

/** What was written last; `null` where nothing was yet. */
export function readJournal(file: string): JournalEntry | null {
  const fd = openSync(file, 'r')
  try {
    const header = Buffer.alloc(headerBytes)
    if (readSync(fd, header, 0, headerBytes, 0) < headerBytes) return null
    const input = Buffer.alloc(header.readUInt32LE(8))
    const read = readSync(fd, input, 0, input.length, headerBytes)
    return { target: header.readUInt32LE(0), number: header.readUInt32LE(4), input: input.subarray(0, read) }
  } finally {
    closeSync(fd)
  }
}
