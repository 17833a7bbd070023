import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once as eventOf } from 'node:events'
import {
  appendFileSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { type BytePath, frameBytesMax } from '../src/index.ts'
import { OpenWatch } from './open-watch.ts'
import {
  contentOf,
  entriesIn,
  type PackHooks,
  packInPlace,
  requireSound,
  warningsIn,
} from './pack-in-place.ts'
import { PackingFolder, runProgram } from './packing-folder.ts'

/** Two blocks and a bit, so that the tree can be changed between the first read and the last. */
const largeBytes = 2 * frameBytesMax + 1000

/** Does something once, the first time that the packer comes to this place with the file `name`. */
function once(folder: PackingFolder, name: string, change: (path: Buffer) => void): (path: BytePath) => void {
  let done = false
  return (path) => {
    if (done || path !== folder.pathOf(name)) return
    done = true
    change(folder.at(name))
  }
}

/** Packs `a`, `m` and `z`, of which `m` is changed by the hooks; `a` and `z` must come whole whatever happens. */
function packChanged(folder: PackingFolder, content: Buffer, hooks: PackHooks) {
  folder.file('a', 'before')
  folder.file('m', content)
  folder.file('z', 'after')
  const packed = packInPlace([folder.root()], hooks)
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  assert.equal(contentOf(packed, entries.a!).toString(), 'before')
  assert.equal(contentOf(packed, entries.z!).toString(), 'after')
  assert.deepEqual([entries.a!.changedWhileRead, entries.z!.changedWhileRead], [false, false])
  return { packed, changed: entries.m, warnings: warningsIn(folder, packed) }
}

function pattern(size: number): Buffer {
  return Buffer.alloc(size, 'all work and no play makes jack a dull boy\n')
}

test('a file that shrinks while it is read is padded with zeros to its first size, marked and counted', () => {
  using folder = new PackingFolder()
  const content = pattern(largeBytes)
  const kept = frameBytesMax + 12_345
  const { packed, changed, warnings } = packChanged(folder, content, {
    onRead: once(folder, 'm', (path) => truncateSync(path, kept)),
  })
  const found = contentOf(packed, changed!)
  assert.equal(found.length, largeBytes)
  assert.ok(found.subarray(0, kept).equals(content.subarray(0, kept)))
  assert.ok(found.subarray(kept).every((byte) => byte === 0))
  assert.equal(changed!.changedWhileRead, true)
  assert.deepEqual(warnings, ['changed m'])
  assert.match(packed.warnings[0]!.message, /shorter.*filled with zeros/)
  assert.deepEqual([packed.counts.changed, packed.counts.files, packed.counts.unreadable], [1, 3, 0])
})

test('a file that is emptied while it is read is all zeros from there on, and reported once', () => {
  using folder = new PackingFolder()
  const { packed, changed, warnings } = packChanged(folder, pattern(5 * frameBytesMax), {
    onRead: once(folder, 'm', (path) => truncateSync(path, 0)),
  })
  assert.equal(changed!.size, 5 * frameBytesMax)
  assert.deepEqual(warnings, ['changed m'])
  assert.equal(packed.counts.changed, 1)
})

test('a file that grows while it is read is cut at its first size, marked and counted', () => {
  for (const size of [10, largeBytes]) {
    using folder = new PackingFolder()
    const content = pattern(size)
    const { packed, changed, warnings } = packChanged(folder, content, {
      onRead: once(folder, 'm', (path) => appendFileSync(path, 'more and more')),
    })
    assert.ok(contentOf(packed, changed!).equals(content))
    assert.equal(changed!.changedWhileRead, true)
    assert.deepEqual(warnings, ['changed m'])
    assert.match(packed.warnings[0]!.message, /grew.*cut at its first size/)
    assert.equal(packed.counts.changed, 1)
  }
})

test('a file that is written to in place while it is read is marked and counted, its size as it was', () => {
  using folder = new PackingFolder()
  const { packed, changed, warnings } = packChanged(folder, pattern(largeBytes), {
    onRead: once(folder, 'm', (path) => {
      const fd = openSync(path, 'r+')
      writeSync(fd, 'CHANGED', largeBytes - 100)
      closeSync(fd)
    }),
  })
  assert.equal(changed!.size, largeBytes)
  assert.equal(changed!.changedWhileRead, true)
  assert.deepEqual(warnings, ['changed m'])
  assert.match(packed.warnings[0]!.message, /written to while it was read/)
})

test('a file whose times are set back after a change while it is read is still noticed', () => {
  using folder = new PackingFolder()
  const { changed, warnings } = packChanged(folder, pattern(largeBytes), {
    onRead: once(folder, 'm', (path) => {
      const fd = openSync(path, 'r+')
      writeSync(fd, 'CHANGED', largeBytes - 100)
      closeSync(fd)
      utimesSync(path, 1_000_000_000, 1_000_000_000)
    }),
  })
  assert.equal(changed!.changedWhileRead, true)
  assert.deepEqual(warnings, ['changed m'])
})

test('a file that grew between the look and the opening comes whole, and is no change', () => {
  using folder = new PackingFolder()
  const { packed, changed, warnings } = packChanged(folder, pattern(100), {
    onFound: once(folder, 'm', (path) => writeFileSync(path, pattern(largeBytes))),
  })
  assert.ok(contentOf(packed, changed!).equals(pattern(largeBytes)))
  assert.equal(changed!.changedWhileRead, false)
  assert.deepEqual(warnings, [])
})

test('a file that only gets another owner, mode or name while it is read is no change of content', () => {
  using folder = new PackingFolder()
  const { changed, warnings } = packChanged(folder, pattern(largeBytes), {
    onRead: once(folder, 'm', (path) => {
      runProgram('chmod', ['600', path.toString()])
      runProgram('ln', [path.toString(), join(folder.path, 'zz')])
    }),
  })
  assert.equal(changed!.changedWhileRead, false)
  assert.deepEqual(warnings, [])
})

test('a file that is removed while it is read comes whole', () => {
  using folder = new PackingFolder()
  const content = pattern(largeBytes)
  const { packed, changed, warnings } = packChanged(folder, content, {
    onRead: once(folder, 'm', (path) => rmSync(path)),
  })
  assert.ok(contentOf(packed, changed!).equals(content))
  assert.deepEqual(warnings, [])
})

test('a file that is replaced by a rename while it is read comes whole as it was', () => {
  using folder = new PackingFolder()
  const content = pattern(largeBytes)
  const { packed, changed, warnings } = packChanged(folder, content, {
    onRead: once(folder, 'm', (path) => {
      writeFileSync(`${path}.new`, 'another file')
      renameSync(`${path}.new`, path)
    }),
  })
  assert.ok(contentOf(packed, changed!).equals(content))
  assert.deepEqual(warnings, [])
})

test('a file that is replaced by another between the look and the opening is packed as the other', () => {
  using folder = new PackingFolder()
  const { packed, changed, warnings } = packChanged(folder, pattern(100), {
    onFound: once(folder, 'm', (path) => {
      writeFileSync(`${path}.new`, 'another file', { mode: 0o600 })
      renameSync(`${path}.new`, path)
    }),
  })
  assert.equal(contentOf(packed, changed!).toString(), 'another file')
  assert.equal(changed!.mode, 0o600)
  assert.equal(changed!.ino, lstatSync(folder.at('m')).ino)
  assert.deepEqual(warnings, [])
})

const replacements: [string, (path: Buffer) => void][] = [
  ['nothing', () => {}],
  ['a link to a secret', (path) => symlinkSync('../outside/secret', path)],
  ['a fifo', (path) => runProgram('mkfifo', [path.toString()])],
  ['a folder', (path) => mkdirSync(path)],
]
for (const [what, replace] of replacements) {
  test(`a file that ${what} has taken the place of before it is opened is left out and counted as vanished`, () => {
    using folder = new PackingFolder()
    folder.file('outside/secret', 'must not be packed')
    folder.file('tree/a', 'before')
    folder.file('tree/m', 'content')
    folder.file('tree/z', 'after')
    const packed = packInPlace([folder.root('tree')], {
      onFound: once(folder, 'tree/m', (path) => {
        rmSync(path)
        replace(path)
      }),
    })
    requireSound(packed, folder)
    assert.deepEqual(Object.keys(entriesIn(folder, packed)), ['tree', 'tree/a', 'tree/z'])
    assert.ok(!packed.tar.includes('must not be packed'))
    assert.deepEqual(warningsIn(folder, packed), ['vanished tree/m'])
    assert.deepEqual([packed.counts.vanished, packed.counts.files, packed.counts.unreadable], [1, 2, 0])
  })
}

test('a file that a socket has taken the place of before it is opened is left out and counted as vanished', async () => {
  using folder = new PackingFolder()
  folder.file('m', 'content')
  const server = createServer().listen(join(folder.path, 'socket'))
  await new Promise((resolve) => server.once('listening', resolve))
  try {
    const packed = packInPlace([folder.root('m')], {
      onFound: once(folder, 'm', (path) => renameSync(folder.at('socket'), path)),
    })
    requireSound(packed, folder)
    assert.deepEqual(warningsIn(folder, packed), ['vanished m'])
  } finally {
    server.close()
  }
})

test('a link that a file has taken the place of before it is read is left out and counted as vanished', () => {
  using folder = new PackingFolder()
  folder.symlink('m', 'target')
  const packed = packInPlace([folder.root()], {
    onFound: once(folder, 'm', (path) => {
      rmSync(path)
      writeFileSync(path, 'content')
    }),
  })
  requireSound(packed, folder)
  assert.deepEqual(warningsIn(folder, packed), ['vanished m'])
  assert.equal(packed.counts.symlinks, 0)
})

test('a file that a fifo has taken the place of is opened without waiting for a writer', () => {
  using folder = new PackingFolder()
  folder.file('m', 'content')
  using watch = new OpenWatch(folder.path)
  packInPlace([folder.root()], {
    onFound: once(folder, 'm', (path) => {
      rmSync(path)
      runProgram('mkfifo', [path.toString()])
    }),
  })
  // Nobody writes into the fifo: a call that waited would never have come back.
  assert.ok(watch.names().includes('m'))
})

test('a second name of a file whose first name could not be read becomes the first', () => {
  using folder = new PackingFolder()
  folder.file('a', 'content')
  folder.hardLink('b', 'a')
  folder.hardLink('c', 'a')
  const packed = packInPlace([folder.root()], { onFound: once(folder, 'a', (path) => rmSync(path)) })
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  assert.deepEqual([entries.b!.type, entries.c!.type], ['file', 'hardlink'])
  assert.equal(entries.c!.target, folder.pathOf('b'))
  assert.deepEqual(warningsIn(folder, packed), ['vanished a'])
})

test('a file that somebody has a lease on is waited for until he gives it back', async (t) => {
  using folder = new PackingFolder()
  folder.file('a', 'before')
  folder.file('leased', 'content')
  const script = join(import.meta.dirname, 'hold-lease.ts')
  const holder = spawn(process.execPath, [script, folder.at('leased').toString()], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = eventOf(holder, 'exit')
  try {
    await Promise.race([eventOf(holder.stdout!, 'data'), ended])
    if (holder.exitCode !== null) return t.skip('this file system has no leases')
    const packed = packInPlace([folder.root()])
    assert.deepEqual(packed.warnings, [])
    assert.equal(contentOf(packed, entriesIn(folder, packed).leased!).toString(), 'content')
  } finally {
    holder.kill('SIGKILL')
    await ended
  }
  assert.equal(holder.signalCode, 'SIGIO')
})
