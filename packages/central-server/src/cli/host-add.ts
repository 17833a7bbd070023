import { resolve } from 'node:path'
import type { AddHostPlan } from '../jobs/add-host.ts'
import { parseAddress } from './address.ts'
import { type CommandDefinition, collect } from './command.ts'
import { printable } from './printable.ts'

interface Options {
  address: string
  path?: string[]
  exclude?: string[]
  bundle?: string
}

export const hostAddCommand: CommandDefinition = {
  words: 'host add',
  summary: 'add a host: certificate, password, module, and the bundle to carry to it',
  example: "backup-server host add web1 --address 192.0.2.10 --path /etc --path /home --exclude '*.tmp'",
  define(command, invocation) {
    command
      .argument('<name>', 'what the host is called here')
      .requiredOption('--address <host[:port]>', 'where its agent listens')
      .option(
        '--path <path>',
        'what to back up, a path or a pattern; repeatable (default: the whole machine)',
        collect,
      )
      .option('--exclude <pattern>', 'what to leave out; repeatable', collect)
      .option('--bundle <file>', 'where to write the bundle (default: bundles/NAME.bundle.json in the home)')
    command.action(async (name: string, options: Options) => {
      const { now, workingDirectory } = invocation.surroundings
      const { address, port } = parseAddress(options.address)
      const { applyAddHost, planAddHost } = await import('../jobs/add-host.ts')
      const { settings } = await invocation.loadConfiguration()
      const plan = await planAddHost(settings, {
        name,
        address,
        port,
        paths: options.path ?? [],
        exclude: options.exclude ?? [],
        bundle: options.bundle === undefined ? null : resolve(workingDirectory, options.bundle),
      })
      await applyAddHost(plan, now())
      const { files, paths, exclude } = plan
      invocation.report(
        { host: name, address, port: plan.bundlePort, paths, exclude, files },
        describePlan(plan),
      )
    })
  },
}

function describePlan({ name, address, files }: AddHostPlan): string[] {
  const carried = `/root/${name}.bundle.json`
  const target = address.includes(':') ? `[${address}]` : address
  return [
    `Host ${name} is added:`,
    `  ${printable(files.module)}  what is backed up: look it over`,
    `  ${printable(files.secret)}  its password`,
    `  ${printable(files.certificate)}  its certificate`,
    `  ${printable(files.bundle)}  the bundle: a secret, to be carried to the host`,
    '',
    'Next:',
    `  1. Carry the bundle over:      scp -p ${printable(files.bundle)} root@${target}:${carried}`,
    `  2. On the host, set it up:     backup-host init --bundle ${carried}`,
    `  3. Delete the bundle there and here, and start the service on the host.`,
    `  4. Here, see whether it works: backup-server check ${name}`,
  ]
}
