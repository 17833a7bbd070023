import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { BytePath } from '../src/index.ts'
import { HardLinks } from '../src/pack/hard-links.ts'

const objectOf = (ino: number) => ({ dev: 1, ino, ctimeSeconds: 1, ctimeNanoseconds: 2, nlink: 2 })

/** As they come out of a walk: a string of its own each. */
function pathOf(folder: string, ino: number): BytePath {
  return Buffer.from(`${folder}${ino}`, 'latin1').latin1Slice() as BytePath
}

test('objects are known by their first name until their last was met', () => {
  const links = new HardLinks()
  for (const [ino, folder] of ['', 'a/', 'a/b/', 'b/', 'a/'].entries()) {
    const object = { ...objectOf(ino), nlink: 3 }
    assert.equal(links.firstNameOf(object), null)
    links.meet(object, pathOf(folder, ino))
    links.meet(object, pathOf('z/', ino))
    assert.equal(links.firstNameOf(object), `${folder}${ino}`)
    assert.equal(links.firstNameOf({ ...object, ctimeNanoseconds: 3 }), null)
    links.meet(object, pathOf('z/z', ino))
    assert.equal(links.firstNameOf(object), null)
    links.meet(object, pathOf(folder, ino))
    links.forget(object)
    assert.equal(links.firstNameOf(object), null)
  }
})

test('of many objects whose other names are still to come, no more is held than their names', () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const heap = () => {
    collect()
    return process.memoryUsage().heapUsed
  }
  const objects = 20_000
  // From one folder to the other and back.
  const folders = ['a', 'b'].map((letter) => `${letter.repeat(200)}/`.repeat(20))
  const links = new HardLinks()
  const before = heap()
  for (let ino = 0; ino < objects; ino++) links.meet(objectOf(ino), pathOf(folders[ino % 2]!, ino))
  const held = (heap() - before) / objects
  assert.equal(links.firstNameOf(objectOf(7)), `${folders[1]}7`)
  assert.ok(held < 600, `${held} bytes for each`)
})
