/**
 * Takes the lease of the host `process.argv[3]` in the catalog `process.argv[2]`, begins a run, says so, and waits to be
 * killed: the owner that tests need dead.
 */
import { Catalog } from '../src/catalog/catalog.ts'
import { takeLease } from '../src/catalog/lease.ts'

const [, , file, host] = process.argv
const catalog = new Catalog(file!)
const lease = takeLease(catalog, host!)
const run = catalog.beginRun({ host: host!, kind: 'full', leaseToken: lease.token, startedAtMs: Date.now() })
process.stdout.write(`${run}\n`)
process.stdin.resume()
