/** Retention, rows of the catalog, and certificates. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ArchiveError, decodeIndexBatch, type Entry } from '@central-backup/archive'
import fc from 'fast-check'
import { attempt, type FuzzTarget, require, requireEqual, textOf } from '../../../../test/fuzz/target.ts'
import { indexBatches, indexTokens } from '../../../archive/test/fuzz/index-targets.ts'
import { Catalog } from '../../src/catalog/catalog.ts'
import { openReferences } from '../../src/catalog/references.ts'
import { toEntry, toVersionValues } from '../../src/catalog/version-row.ts'
import { CertificateError } from '../../src/errors.ts'
import { createAuthority, issueCertificate, type KeyPair } from '../../src/pki/certificate.ts'
import { findCertificateFaults } from '../../src/pki/inspect.ts'
import { planRetention, type RetainableRun, type RetentionPolicy } from '../../src/retention/plan.ts'
import { anyPolicy, anyRuns } from '../retention-arbitraries.ts'

const nowMs = 1_760_000_000_000
const expectEveryMs = 26 * 3_600_000

/** Throws where a plan breaks what is promised of every plan. */
export function checkPlan(runs: readonly RetainableRun[], policy: RetentionPolicy): void {
  const { decisions, refusal } = planRetention(runs, policy, nowMs, expectEveryMs)
  const ids = (list: readonly number[]) => [...list].sort((a, b) => a - b)
  requireEqual(ids(decisions.map(({ run }) => run)), ids(runs.map(({ id }) => id)), 'one decision a run')
  require(decisions.every(({ reasons }) => reasons.length > 0), 'with a reason')
  const stays = new Set(decisions.filter(({ action }) => action === 'keep').map(({ run }) => run))
  const good = runs
    .filter(({ outcome }) => outcome.startsWith('complete'))
    .sort((a, b) => b.startedAtMs - a.startedAtMs || b.id - a.id)
  if (good[0] !== undefined) require(stays.has(good[0].id), 'the last good run stays')
  for (const { id, pinned } of runs) require(!pinned || stays.has(id), 'what is pinned stays')
  for (const { id } of good.slice(0, policy.last ?? 0)) require(stays.has(id), 'the last ones stay')
  if (refusal !== null || Object.keys(policy).length === 0) require(stays.size === runs.length, 'all stay')
  const left = runs.filter(({ id }) => stays.has(id))
  const again = planRetention(left, policy, nowMs, expectEveryMs).decisions
  require(again.every(({ action }) => action === 'keep'), 'to plan again changes nothing')
  const backwards = planRetention([...runs].reverse(), policy, nowMs, expectEveryMs)
  requireEqual(backwards.decisions, decisions, 'the order in which runs are given does not matter')
}

/** An input is JSON: runs and rules. */
const retention: FuzzTarget = {
  name: 'retention',
  inputs: fc.tuple(anyRuns, anyPolicy, fc.boolean()).map(([runs, policy, today]) => {
    // With runs up to now, the clock is not in doubt.
    const shown = today
      ? [...runs, { id: 999, outcome: 'failed', startedAtMs: nowMs - 3_600_000, pinned: false }]
      : runs
    return Buffer.from(JSON.stringify([shown, policy]))
  }),
  mutations: 'none',
  check(input) {
    const [runs, policy] = JSON.parse(textOf(input)) as [RetainableRun[], RetentionPolicy]
    checkPlan(runs, policy)
    return true
  },
}

/** A catalog for rows that never stay. */
class RowCatalog {
  readonly #folder = mkdtempSync(join(tmpdir(), 'central-backup-fuzz-'))
  readonly #catalog = new Catalog(join(this.#folder, 'catalog.sqlite'))
  readonly #rollBack = new Error('never stays')

  /** The entry as it comes back from its row. */
  store(entry: Entry): Entry {
    const { statements, database } = this.#catalog
    const archives: string[] = []
    let stored: Entry | undefined
    const work = database.transaction(() => {
      const names = { user: Buffer.from(entry.user, 'latin1'), group: Buffer.from(entry.group, 'latin1') }
      statements.addOwner.run(names)
      const owner = statements.owner.get(names)!
      const runOf = (archive: string) => {
        if (!archives.includes(archive)) archives.push(archive)
        return 100 + archives.indexOf(archive)
      }
      const values = toVersionValues(entry, { generation: 1, run: 1, owner, runOf })
      statements.insertVersion.run(values)
      const row = statements.versionFrom.get({ generation: 1, run: 1, path: values[1] as Buffer })!
      const archiveOf = (run: number) => (run === 1 ? 'this' : archives[run - 100]!)
      stored = toEntry(row, { ...openReferences(this.#catalog), archiveOf })
      throw this.#rollBack
    })
    try {
      work()
    } catch (error) {
      if (error !== this.#rollBack) throw error
    }
    return stored!
  }

  remove(): void {
    this.#catalog.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

let rows: RowCatalog | null = null
const catalogRow: FuzzTarget = {
  name: 'catalog-row',
  inputs: indexBatches,
  mutations: 'bytes',
  tokens: indexTokens,
  check(input) {
    const batch = attempt(ArchiveError, () => decodeIndexBatch(input))
    rows ??= new RowCatalog()
    for (const entry of batch?.entries ?? []) {
      const extents = entry.extents.map((extent) => ({ ...extent, archive: extent.archive ?? 'this' }))
      requireEqual(plain(rows.store(entry)), plain({ ...entry, extents }), 'a row keeps the entry')
    }
    return batch !== undefined
  },
  dispose() {
    rows?.remove()
    rows = null
  },
}

/** Bytes as text, whatever kind of array holds them. */
function plain({ digest, xattrs, ...rest }: Entry): object {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
  return {
    ...rest,
    digest: digest && text(digest),
    xattrs: xattrs && [...xattrs].map(([name, value]) => [name, text(value)]),
  }
}

const authority = await createAuthority('fuzz', Date.UTC(2026, 0, 1))
const leaf = await issueCertificate(authority, { role: 'host', name: 'web1' }, Date.UTC(2026, 0, 1))
const pems = fc.constantFrom(
  authority.certificate,
  leaf.certificate,
  authority.certificate + leaf.certificate,
)

/** The DER of a certificate, mutated, in its PEM: as base64, most mutations would only be of the letters. */
const certificate: FuzzTarget = {
  name: 'certificate',
  inputs: pems.map((pem) => Buffer.from(pem.replace(/-----[^-]+-----|\n/g, ''), 'base64')),
  mutations: 'bytes',
  tokens: ['urn:central-backup:server:main', 'urn:central-backup:host:', '\x30\x80', '\x86'],
  check(input) {
    const pem = `-----BEGIN CERTIFICATE-----\n${input.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`
    const expected = { role: 'host', name: 'web1' } as const
    const at = Date.UTC(2026, 1, 1)
    const asLeaf = { certificate: pem, key: leaf.key, authority: authority.certificate }
    const faults = findCertificateFaults(asLeaf, expected, at)
    if (faults.length === 0)
      require(pem.trim() === leaf.certificate.trim(), 'one that was changed is refused')
    findCertificateFaults({ ...asLeaf, certificate: leaf.certificate, authority: pem }, expected, at)
    return faults.length === 0
  },
}

/** An input is the PEM of certificate and key of an authority, one after the other. */
const authorityFiles: FuzzTarget = {
  name: 'authority',
  inputs: fc.constantFrom(authority, leaf).map((pair) => Buffer.from(`${pair.certificate}\0${pair.key}`)),
  mutations: 'text',
  tokens: ['-----BEGIN CERTIFICATE-----\n', '-----END PRIVATE KEY-----\n', '-----', '\n', '=', '\0', 'AAAA'],
  async check(input) {
    const [certificate = '', key = ''] = textOf(input).split('\0')
    const pair: KeyPair = { certificate, key }
    try {
      const issued = await issueCertificate(pair, { role: 'host', name: 'web1' }, Date.UTC(2026, 1, 1))
      return issued.certificate !== ''
    } catch (error) {
      if (error instanceof CertificateError) return false
      throw error
    }
  },
}

export const stateTargets: readonly FuzzTarget[] = [retention, catalogRow, certificate, authorityFiles]
