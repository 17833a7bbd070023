/** Promise 1, through the agent of a host: all that a file system can hold comes back as it does on the server. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { compareTrees, readTree } from './harness/compare-trees.ts'
import { features, makeFeatures, releaseFeatures } from './harness/features.ts'
import { shownDifferences } from './harness/fidelity.ts'
import { runCommand } from './harness/program.ts'
import { Site } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

const skip = process.geteuid!() === 0 ? false : 'only root can set all of it'

/** What a restore does in more than one step. `npm run units` has all of them brought back. */
const chosen =
  /^(hard links of|devices|sockets|further names|owner|trusted|capabilities|default ACLs|inode flags imm)/

test('whatever a file system holds comes back through the agent', { skip }, async () => {
  await using site = await Site.create()
  const tree = site.tree('web1')
  const folder = site.at('restored')
  mkdirSync(folder, { mode: 0o700 })
  const host = await site.addHost('web1', { settings: '[limits]\ncpu_nice = 0' })
  host.configure((text) => text.replace('read = ["/"]', `read = ["/"]\nrestore = ["${folder}"]`))
  try {
    const wanted = features.filter(({ name }) => chosen.test(name))
    const { made } = await makeFeatures(tree, wanted)
    assert.ok(made.length > 8, `${made.length} of ${wanted.length} kinds of objects`)
    writeTree(tree, { file: 'a backup needs one' })
    await host.start()
    assert.equal((await site.run()).code, 0)
    const restored = await site.server('restore', 'web1', '--to-host', '--json')
    assert.equal(restored.code, 0, restored.stdout + restored.stderr)
    const differences = compareTrees(readTree(join(folder, tree)), readTree(tree))
    assert.deepEqual(shownDifferences(differences), [], `${differences.length} differ`)
  } finally {
    for (const path of [tree, folder]) {
      releaseFeatures(path)
      // Not Node's, which knows no paths that are longer than the kernel takes.
      await runCommand(['rm', '-rf', path])
    }
  }
})
