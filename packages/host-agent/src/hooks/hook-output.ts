import { plainText } from '@central-backup/protocol'

/** What is kept of all that a hook says: so much from its beginning, and so much from its end. */
const keptBytesMax = 32 * 1024
const keptLinesMax = 100

/** What a hook says on standard output and standard error. However much that is, little of it is kept. */
export class HookOutput {
  #beginning = Buffer.alloc(0)
  #end = Buffer.alloc(0)
  #omittedBytes = 0

  add(piece: Buffer): void {
    const room = keptBytesMax - this.#beginning.length
    if (room > 0) this.#beginning = Buffer.concat([this.#beginning, piece.subarray(0, room)])
    if (piece.length <= room) return
    const all = Buffer.concat([this.#end, piece.subarray(Math.max(0, room))])
    const kept = all.subarray(Math.max(0, all.length - keptBytesMax))
    this.#omittedBytes += all.length - kept.length
    this.#end = Buffer.from(kept)
  }

  /** Lines without line ends and control characters, none of them empty; one in between says what was omitted. */
  lines(): string[] {
    if (this.#omittedBytes === 0) return limitLines(linesOf(Buffer.concat([this.#beginning, this.#end])))
    return [
      ...linesOf(this.#beginning).slice(0, keptLinesMax),
      `[${this.#omittedBytes} bytes or more are left out]`,
      ...linesOf(this.#end).slice(-keptLinesMax),
    ]
  }
}

function limitLines(lines: readonly string[]): string[] {
  const omitted = lines.length - 2 * keptLinesMax
  if (omitted <= 0) return [...lines]
  return [...lines.slice(0, keptLinesMax), `[${omitted} lines are left out]`, ...lines.slice(-keptLinesMax)]
}

function linesOf(bytes: Buffer): string[] {
  return bytes
    .toString()
    .split(/\r?\n|\r/)
    .map((line) => plainText(line.trimEnd()))
    .filter((line) => line !== '')
}
