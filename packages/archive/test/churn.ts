/**
 * A program that changes a tree without pause: `churn.ts FOLDER`. Says `ready` once it is at work, and ends when its
 * standard input does. Everything below FOLDER/tree is of this program; FOLDER/outside is what nobody may read.
 */
import {
  appendFileSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import koffi from 'koffi'

const [folder] = process.argv.slice(2)
const tree = `${folder}/tree`
const renameat2 = koffi.load(null).func('int renameat2(int, str, int, str, unsigned int)')
const atCwd = -100
const exchange = 2

function swap(a: string, b: string): void {
  if (renameat2(atCwd, a, atCwd, b, exchange) < 0) throw new Error(`renameat2: errno ${koffi.errno()}`)
}

const changes: ((file: string, n: number) => void)[] = [
  (file) => appendFileSync(file, 'x'.repeat(10_000)),
  (file, n) => truncateSync(file, n % 5000),
  (file) => rmSync(file, { force: true, recursive: true }),
  (file, n) => {
    const fd = openSync(file, 'r+')
    writeSync(fd, `${n}`, n % 20_000)
    closeSync(fd)
  },
  (file) => {
    rmSync(file, { force: true, recursive: true })
    symlinkSync('../../outside/secret', file)
  },
  (file) => {
    rmSync(file, { force: true, recursive: true })
    mkdirSync(file)
    writeFileSync(`${file}/inner`, 'inner')
  },
  (file, n) => {
    writeFileSync(`${file}.new`, Buffer.alloc(n % 300_000, `${n}`))
    renameSync(`${file}.new`, file)
  },
  (file) => linkSync(file, `${file}.link`),
  (file) => rmSync(`${file}.link`, { force: true }),
]

symlinkSync('../outside', `${tree}/swapped`)
mkdirSync(`${tree}/real`)
writeFileSync(`${tree}/real/harmless`, 'harmless')

let n = 0
function work(): void {
  for (let i = 0; i < 200; i++, n++) {
    const file = `${tree}/${n % 7}/${n % 50}`
    try {
      changes[(n * 31 + (n >> 5)) % changes.length]!(file, n * 7919)
    } catch {
      // The file is none now, or a folder: the next change will see to it.
    }
    swap(`${tree}/swapped`, `${tree}/real`)
  }
  setImmediate(work)
}

for (let i = 0; i < 7; i++) mkdirSync(`${tree}/${i}`)
work()
process.stdout.write('ready\n')
process.stdin.resume().on('end', () => process.exit())
