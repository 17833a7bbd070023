import type { HostConfig } from '@central-backup/central-server'

/** A web server. Files named *.example.ts are no hosts: copy it to hosts/NAME.ts, or let `host add` write one. */
export default {
  address: 'web1.example.org',
  password: { file: '../secrets/web1' },
  paths: ['/etc', '/var/www/*/public', { path: '/home', exclude: ['*.iso'], maxFileSize: '2G' }, '/root'],
  exclude: ['**/node_modules', '*.tmp', '.cache/', '!/home/eve/.cache/mail'],
  excludeCaches: true,
  expectEvery: '26 hours',
  fullEvery: '30 days',
  retention: { daily: 7, weekly: 4, monthly: 12, yearly: 'always' },
} satisfies HostConfig
