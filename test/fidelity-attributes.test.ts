/** Promise 1, attribute by attribute and kind by kind: through agent, archive, catalog and restore, and by stock tar. */
import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { after, before, describe, test } from 'node:test'
import { lacksAttributes } from '../packages/archive/test/object-attributes.ts'
import { compareTrees, readTree, type Tree } from './harness/compare-trees.ts'
import { features } from './harness/features.ts'
import { differencesIn, FidelityScene, shownDifferences, stockTar } from './harness/fidelity.ts'

const skip = lacksAttributes(tmpdir(), 'trusted') || lacksAttributes(tmpdir(), 'flags')

/** In the index alone: no tar has a form for it. */
const notInTar = new Set(['flags', 'project'] as const)

describe('what was backed up', { skip }, () => {
  let scene: FidelityScene
  let expected: Tree
  let restored: Tree
  let unpacked: Tree
  let exported: Tree

  before(async () => {
    scene = await FidelityScene.create(tmpdir())
    expected = scene.read()
    await scene.backUp()
    await scene.restore(scene.at('restored'), '--numeric-ids')
    restored = readTree(scene.restored(scene.at('restored')))
    const archive = scene.site.archives('web1')[0]!
    await scene.unpack(['tar', '--zstd', ...stockTar.slice(1)], archive, scene.at('unpacked'))
    unpacked = readTree(scene.restored(scene.at('unpacked')))
    const tar = scene.at('export.tar')
    const { code, stderr } = await scene.site
      .startServer(['export', 'web1'], { wrapper: ['sh', '-c', `exec "$@" > '${tar}'`, 'sh'] })
      .endWithin(60_000)
    assert.equal(code, 0, stderr)
    await scene.unpack(stockTar, tar, scene.at('exported'))
    exported = readTree(scene.restored(scene.at('exported')))
  })
  after(() => scene?.[Symbol.asyncDispose]())

  for (const feature of features) {
    test(`comes back: ${feature.name}`, (t) => {
      const made = scene.made.find((one) => one.feature === feature)
      if (made === undefined) return t.skip(`not on this file system: ${scene.lacking.get(feature)}`)
      assert.ok([...expected.keys()].some((path) => path.startsWith(`${made.folder}/`)))
      assert.deepEqual(shownDifferences(differencesIn(made, restored, expected)), [])
    })

    const isLong = feature.name.startsWith('paths of more than')
    if (feature.notInTar || isLong) continue
    for (const [way, treeOf] of [
      ['from the archive', () => unpacked],
      ['from an export', () => exported],
    ] as const) {
      test(`comes back with stock tar ${way}: ${feature.name}`, (t) => {
        const made = scene.made.find((one) => one.feature === feature)
        if (made === undefined) return t.skip(`not on this file system: ${scene.lacking.get(feature)}`)
        const differences = differencesIn(made, treeOf(), expected, notInTar)
        const told = differences.filter((one) => one.aspect !== 'presence' || one.expected !== 'socket')
        // The folder that a socket is missing from has nothing else that differs.
        assert.deepEqual(shownDifferences(told), [])
      })
    }
  }

  test('comes back as a whole, and nothing else', () => {
    assert.deepEqual(shownDifferences(compareTrees(restored, expected)), [])
  })
})
