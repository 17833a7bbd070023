import type { HostConfig } from '@central-backup/central-server'

/** A database server whose dumps are what counts: hourly runs, and everything packed anew once a month. */
export default {
  address: '192.0.2.20',
  port: 7912,
  password: { env: 'DATABASE1_PASSWORD' },
  paths: ['/etc', '/var/backups/postgresql'],
  exclude: ['*.partial'],
  hooks: { before: ['dump-db'] }, // a command of the host's own settings: docs/operating.md, "Hooks"
  maxHostBytes: '500 GB',
  compressionLevel: 6,
  expectEvery: '2 hours',
  fullEvery: '30 days',
  retention: { within: '1 day', hourly: 48, daily: 14, monthly: 6 },
} satisfies HostConfig
