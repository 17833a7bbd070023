import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Interfaces, joinAddress, reachableAddresses } from '../src/enroll/addresses.ts'

const address = (text: string, internal = false) => ({
  address: text,
  internal,
  family: text.includes(':') ? ('IPv6' as const) : ('IPv4' as const),
  netmask: '',
  mac: '',
  cidr: null,
  scopeid: 0,
})

const interfaces = {
  lo: [address('127.0.0.1', true), address('::1', true)],
  docker0: [address('172.17.0.1')],
  eth1: [address('10.0.0.5'), address('fe80::1')],
  eth0: [address('192.0.2.10'), address('2001:db8::10'), address('169.254.7.7')],
} as Interfaces

// As Linux prints them.
const v4 = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth1\t00000000\t0100000A\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
`
const zeros = '0'.repeat(32)
const v6 = `20010db8000000000000000000000000 40 ${zeros} 00 ${zeros} 00000100 00000001 00000000 00000001     eth0
${zeros} 00 ${zeros} 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003     eth0
${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200       lo
`

test('the address of the default route with the least metric comes first, others after it', () => {
  const routes = { v4, v6 }
  const ofAll = reachableAddresses('0.0.0.0', interfaces, routes)
  assert.deepEqual(ofAll, ['192.0.2.10', '172.17.0.1', '10.0.0.5'])
  const both = reachableAddresses('::', interfaces, routes)
  assert.deepEqual(both, ['192.0.2.10', '2001:db8::10', '172.17.0.1', '10.0.0.5'])
})

test('who listens on one address is reached there, wherever the routes lead', () => {
  assert.deepEqual(reachableAddresses('10.0.0.5', interfaces, { v4, v6 }), ['10.0.0.5'])
})

test('without routes all addresses are told, and without interfaces those of loopback', () => {
  const none = { v4: '', v6: '' }
  assert.deepEqual(reachableAddresses('0.0.0.0', interfaces, none), ['172.17.0.1', '10.0.0.5', '192.0.2.10'])
  assert.deepEqual(reachableAddresses('0.0.0.0', { lo: interfaces.lo }, none), ['127.0.0.1'])
  assert.deepEqual(reachableAddresses('0.0.0.0', interfaces, { v4: 'noise', v6: '\n\n' }).length, 3)
})

test('an IPv6 address stands in brackets', () => {
  assert.equal(joinAddress('2001:db8::10', 7911), '[2001:db8::10]:7911')
  assert.equal(joinAddress('web1.example.org', 7911), 'web1.example.org:7911')
})
