import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hiddenAttributes } from '../src/hidden-attributes.ts'

function statusWith(effective: string): string {
  return `Name:\tnode\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\nCapEff:\t${effective}\nCapBnd:\t000001ffffffffff\n`
}

test('root without CAP_SYS_ADMIN is told that attributes are hidden from it', () => {
  for (const effective of ['0000000000000000', '000000000000000c', '000001ffffdfffff'])
    assert.equal(hiddenAttributes(statusWith(effective), 0)?.code, 'attributes-hidden', effective)
})

test('nothing is said where nothing is hidden, to others than root, and where the kernel does not tell', () => {
  for (const effective of ['000001ffffffffff', '0000000000200000'])
    assert.equal(hiddenAttributes(statusWith(effective), 0), null, effective)
  assert.equal(hiddenAttributes(statusWith('0000000000000000'), 1000), null)
  assert.equal(hiddenAttributes('', 0), null)
})
