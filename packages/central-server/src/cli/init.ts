import { resolve } from 'node:path'
import { repositoryDefault } from '../config/home.ts'
import type { InitStep } from '../jobs/init-home.ts'
import type { CommandDefinition } from './command.ts'
import { printable } from './printable.ts'

const descriptions: Readonly<Record<InitStep['what'], string>> = {
  folder: 'folder',
  'package.json': 'tells Node that the modules are modules',
  settings: 'settings of the server',
  example: 'an example of a host module',
  authority: 'certificate authority, with its key beside it',
  'server-certificate': 'certificate of the server, with its key beside it',
  repository: 'repository',
}

export const initCommand: CommandDefinition = {
  words: 'init',
  summary: 'make settings, certificates and a repository; what is there stays as it is',
  example: 'backup-server --home /etc/central-backup init --repository /srv/backup',
  define(command, invocation) {
    command.option('--repository <dir>', `where archives are kept (default: ${repositoryDefault})`)
    command.action(async ({ repository }: { repository?: string }) => {
      const { now, uid, workingDirectory } = invocation.surroundings
      const request = {
        home: invocation.chooseHome(),
        repository: repository === undefined ? null : resolve(workingDirectory, repository),
        uid,
        nowMs: now(),
      }
      const { applyInit, planInit } = await import('../jobs/init-home.ts')
      const plan = await planInit(request)
      await applyInit(plan, request.nowMs)
      const result = {
        home: plan.paths.home,
        repository: plan.repository,
        certs: plan.certs,
        steps: plan.steps,
      }
      invocation.report(result, [
        ...plan.steps.map(describeStep),
        '',
        ...nextSteps(plan.paths.home, plan.certs),
      ])
    })
  },
}

function describeStep({ what, path, action }: InitStep): string {
  return `${action === 'create' ? 'made' : 'kept'}  ${printable(path)}  (${descriptions[what]})`
}

function nextSteps(home: string, certs: string): string[] {
  return [
    'Next:',
    `  backup-server --home ${printable(home)} host add NAME --address HOST`,
    '',
    `${printable(certs)}/ca.key is needed to add hosts and to renew certificates, never for a backup. Whoever has it can`,
    'make certificates for any host: keep it elsewhere in between, and keep a copy of it.',
  ]
}
