/** The files that `init` and `host add` write for a person to go on with. */

export const packageJsonText = `${JSON.stringify({ type: 'module', private: true }, null, 2)}\n`

export function settingsText(repository: string): string {
  return `import type { Settings } from '@central-backup/central-server'

export default {
  // Where archives and catalog are kept.
  repository: ${quote(repository)},

  // How many hosts are backed up at the same time.
  // concurrency: 4,

  // What is to stay free on that disk: a size, or a part of the whole.
  // minFree: '1 %',

  // How hard to try to reach a host.
  // connection: { timeout: '20 seconds', attempts: 3, pause: '5 seconds' },

  // Lines of JSON; by default in backup-server.log beside the archives.
  // log: { file: '/var/lib/central-backup/backup-server.log', level: 'info' },

  // For hosts whose modules do not say otherwise.
  // defaults: {
  //   port: 7911,
  //   compressionLevel: 3,
  //   expectEvery: '26 hours',
  //   exclude: ['*.tmp'],
  //   maxHostBytes: '2 TB', // of all archives of a host; also maxArchiveBytes: '500 GB', of one
  //   maxRunTime: '24 hours',
  //   fullEvery: '30 days', // with retention: archives go when all runs since their full one have gone
  //   retention: { daily: 7, weekly: 4, monthly: 12, yearly: 'always' }, // without it, everything stays
  // },
} satisfies Settings
`
}

export const exampleHostText = `import type { HostConfig } from '@central-backup/central-server'

// An example: files named *.example.ts are no hosts. \`backup-server host add NAME --address HOST\` makes a host with all
// that belongs to it.
export default {
  address: '192.0.2.10',
  port: 7911,
  password: { file: '../secrets/web1' }, // or a string, or { env: 'NAME' }
  paths: ['/etc', '/var/www/*/public', '/home'],
  exclude: ['**/node_modules', '*.tmp'],
  // paths may have options of their own: { path: '/srv', exclude: ['*.iso'], maxFileSize: '2G' }
  // excludeCaches: true, // leaves out what lies in folders with a CACHEDIR.TAG
  // excludeIfPresent: ['.nobackup'], // and in folders that hold such a file
  // expectEvery: '26 hours', // \`status\` complains when the last good run is older
  // compressionLevel: 3, // of zstd: 1 (fast) to 19 (small)
  // maxHostBytes: '2 TB', // of all its archives; also maxArchiveBytes: '500 GB', maxRunTime: '12 hours', maxRate: '10 MB'
  // hooks: { before: ['dump-db'] }, // names of commands that the host's own settings have
  // disabled: true, // leaves the host out
} satisfies HostConfig
`

export function hostText(host: {
  name: string
  address: string
  port: number | null
  paths: readonly string[]
  exclude: readonly string[]
}): string {
  const port = host.port === null ? '' : `\n  port: ${host.port},`
  return `import type { HostConfig } from '@central-backup/central-server'

export default {
  address: ${quote(host.address)},${port}
  password: { file: ${quote(`../secrets/${host.name}`)} },
  paths: ${list(host.paths)},
  exclude: ${list(host.exclude)},
} satisfies HostConfig
`
}

function list(texts: readonly string[]): string {
  const oneLine = `[${texts.map(quote).join(', ')}]`
  return oneLine.length <= 90 ? oneLine : `[\n${texts.map((text) => `    ${quote(text)},\n`).join('')}  ]`
}

/** A string literal of TypeScript. */
function quote(text: string): string {
  const inside = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")
  return `'${inside}'`
}
