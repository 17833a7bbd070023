// One message of every type, with values that show their borders: the messages of the vectors, of the splitting and
// of the mutations.

import type { Message } from '../src/index.ts'

const digest = Buffer.from('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', 'hex')

export const counts = {
  files: 65_000,
  directories: 1200,
  symlinks: 31,
  hardlinks: 2,
  specials: 1,
  sockets: 4,
  unchanged: 52_918,
  gone: 3,
  excluded: 7,
  changed: 1,
  vanished: 0,
  unreadable: 0,
  attributes: 0,
  contentBytes: 5_000_000_000,
}

export const examples: Record<string, Message> = {
  'hello of a server': {
    type: 'hello',
    protocol: 1,
    software: 'central-backup 0.1.0',
    role: 'server',
    name: 'main',
  },
  'hello of a host': {
    type: 'hello',
    protocol: 1,
    software: 'central-backup 0.1.0',
    role: 'host',
    name: 'web1',
  },
  authenticate: { type: 'authenticate', password: 'correct horse battery stäple' },
  welcome: { type: 'welcome', name: 'web1', policy: { read: [Buffer.from('/')] }, localCopy: false },
  'error without hint': { type: 'error', code: 'busy', message: 'a run of the server main is under way' },
  'error with hint': { type: 'error', code: 'policy-denied', message: 'not /root', hint: 'See allow.read.' },
  'backup, full': {
    type: 'backup',
    host: 'web1',
    kind: 'full',
    base: null,
    startedAtMs: 1_795_230_000_000,
    paths: [Buffer.from('/etc'), Buffer.from('/srv/caf\xe9', 'latin1')],
    exclude: [],
  },
  'backup, incremental': {
    type: 'backup',
    host: 'web1',
    kind: 'incremental',
    base: '2026-11-20T030000Z-full.tar.zst',
    startedAtMs: 1_795_230_000_001,
    paths: [Buffer.from('/home/*/mail')],
    exclude: [Buffer.from('**/node_modules'), Buffer.from('*.tmp')],
    compressionLevel: 3,
  },
  'archive-name': { type: 'archive-name', name: '2026-11-21T030000Z-full.tar.zst' },
  entries: { type: 'entries', payload: Buffer.from('28b52ffd2000010000', 'hex') },
  frame: { type: 'frame', payload: Buffer.from('28b52ffd0458190000616263b21d11e1', 'hex') },
  'warning about a path': {
    type: 'warning',
    code: 'unreadable',
    path: Buffer.from('/srv/caf\xe9', 'latin1'),
    message: 'permission denied',
  },
  'warning about many': {
    type: 'warning',
    code: 'more-warnings',
    path: null,
    message: 'not listed',
    count: 70_000,
  },
  progress: {
    type: 'progress',
    phase: 'pack',
    entries: 300,
    contentBytes: 4_294_967_296,
    path: Buffer.from('/etc/a'),
  },
  'progress without path': { type: 'progress', phase: 'prepare', entries: 0, contentBytes: 0, path: null },
  'summary of a backup': {
    type: 'summary',
    outcome: 'complete-with-changes',
    counts,
    digest,
    archiveBytes: 2 ** 53 - 1,
    tarBytes: 5_100_000_256,
    finishedAtMs: 1_795_230_123_456,
  },
  'summary of a check': {
    type: 'summary',
    outcome: 'complete',
    counts,
    digest: null,
    archiveBytes: 0,
    tarBytes: 0,
    finishedAtMs: 1_795_230_123_456,
  },
  stored: { type: 'stored', digest, archiveBytes: 4_294_967_295 },
  check: { type: 'check', host: 'web1', paths: [Buffer.from('/etc')], exclude: [Buffer.from('*~')] },
  'finished without local copy': { type: 'finished', localCopy: null },
  'finished with local copy': {
    type: 'finished',
    localCopy: { kept: true, name: '2026-11-21T030000Z-full.tar.zst' },
  },
  'finished with lost local copy': {
    type: 'finished',
    localCopy: { kept: false, name: '2026-11-21T030000Z-full.tar.zst', error: 'no space left on device' },
  },
  baseline: { type: 'baseline', payload: Buffer.from('5b2a4d180900000028b52ffd2000010000', 'hex') },
  'baseline-end': { type: 'baseline-end' },
  'baseline-next': { type: 'baseline-next' },
}
