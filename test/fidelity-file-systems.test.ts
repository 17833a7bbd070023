/** What comes back does not depend on the file system that it was on: all that each of them can hold. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Aspect, compareTrees, readTree } from './harness/compare-trees.ts'
import { FidelityScene, shownDifferences, stockTar } from './harness/fidelity.ts'
import { Mount } from './harness/mount.ts'

interface Tried {
  mount(): Mount
  /** Features that it has beside what all have, by the beginning of their names. */
  has: readonly string[]
}

const fileSystems: Record<string, Tried> = {
  ext4: {
    mount: () => Mount.ext4WithLargeAttributes(600),
    has: ['inode flags imm', 'extended attributes of 64'],
  },
  xfs: {
    mount: () => Mount.xfs(700),
    has: ['inode flags imm', 'extended attributes of 64', 'projects', 'thousands of holes'],
  },
  btrfs: {
    mount: () => Mount.btrfs(700),
    has: ['inode flags imm', 'inode flags nocow', 'thousands of holes'],
  },
  tmpfs: { mount: () => Mount.tmpfs('size=600m'), has: ['access ACLs', 'trusted', 'thousands of holes'] },
}

/** In the index alone: no tar has a form for it. */
const notInTar: ReadonlySet<Aspect> = new Set(['flags', 'project'])

for (const [name, { mount, has }] of Object.entries(fileSystems)) {
  test(`all that ${name} holds comes back, by restore and by stock tar`, async (t) => {
    if (process.geteuid!() !== 0) return t.skip('only root can mount a small file system')
    let mounted: Mount
    try {
      mounted = mount()
    } catch (error) {
      return t.skip(`a small ${name} cannot be mounted here: ${(error as Error).message.slice(0, 200)}`)
    }
    using _ = mounted
    await using scene = await FidelityScene.create(mounted.path)
    for (const beginning of has) {
      const lacking = [...scene.lacking].find(([feature]) => feature.name.startsWith(beginning))
      assert.equal(lacking?.[1], undefined)
    }
    const expected = scene.read()
    await scene.backUp()
    await scene.restore(scene.at('restored'), '--numeric-ids')
    const restored = readTree(scene.restored(scene.at('restored')))
    assert.deepEqual(shownDifferences(compareTrees(restored, expected)), [])

    const archive = scene.site.archives('web1')[0]!
    await scene.unpack(['tar', '--zstd', ...stockTar.slice(1)], archive, scene.at('unpacked'))
    const unpacked = readTree(scene.restored(scene.at('unpacked')))
    const differences = compareTrees(unpacked, expected, notInTar).filter(
      // No tar holds sockets, and GNU tar takes no paths of more than 4,096 bytes.
      ({ path, aspect, expected: kind }) =>
        !(aspect === 'presence' && (kind === 'socket' || path.length > 2000)) &&
        !path.includes('paths-of-more-than'),
    )
    assert.deepEqual(shownDifferences(differences), [])
  })
}
