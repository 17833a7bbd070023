/** How often an input is tried anew, and for how long. */
const attemptsMax = 4000
const shrinkMsMax = 10_000

/** A shorter and simpler input that still fails, as `fails` tells; the input itself where there is none. */
export async function shrinkInput(
  input: Buffer,
  fails: (input: Buffer) => Promise<boolean>,
): Promise<Buffer> {
  const deadlineMs = performance.now() + shrinkMsMax
  let attempts = 0
  let best = input
  const tryOut = async (candidate: Buffer) => {
    attempts++
    if (attempts > attemptsMax || performance.now() > deadlineMs) return false
    if (!(await fails(candidate))) return false
    best = candidate
    return true
  }
  // Pieces go, the large ones first.
  for (let size = Math.ceil(best.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.length; ) {
      const without = Buffer.concat([best.subarray(0, at), best.subarray(at + size)])
      if (!(await tryOut(without))) at += size
    }
  }
  // What has to stay becomes what is easy to read.
  for (let at = 0; at < best.length; at++) {
    for (const simple of [0x30, 0x61, 0x00]) {
      if (best[at] === simple) break
      const simpler = Buffer.from(best)
      simpler[at] = simple
      if (await tryOut(simpler)) break
    }
  }
  return best
}
