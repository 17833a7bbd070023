/** An sshd of our own on loopback, with keys and a port of its own, for one user: whoever runs the bench. */
import { type ChildProcess, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type Daemon, endTree, type Runner } from './measure.ts'

/** Debian's sshd wants this folder of root, which the service would make. */
const privilegeFolder = '/run/sshd'
/** Between looking for a port and using it, another program may take it. */
const attempts = 5
const answerAttempts = 100
const answerPauseMs = 50

export class Sshd implements Disposable {
  readonly daemon: Daemon
  /** `ssh -F clientConfig bench COMMAND` runs a command through it. */
  readonly clientConfig: string
  readonly #child: ChildProcess
  readonly #madeFolder: boolean

  private constructor(child: ChildProcess, clientConfig: string, madeFolder: boolean) {
    this.#child = child
    this.clientConfig = clientConfig
    this.#madeFolder = madeFolder
    this.daemon = { name: 'sshd', pid: child.pid! }
  }

  /** Starts it and waits until it answers. `folder` is made, and nothing outside of it is read but the program. */
  static async start(folder: string, runner: Runner): Promise<Sshd> {
    mkdirSync(folder, { mode: 0o700 })
    for (const name of ['host', 'user'])
      await runner.run({ argv: ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)] })
    copyFileSync(join(folder, 'user.pub'), join(folder, 'authorized_keys'))
    const madeFolder = process.geteuid!() === 0 && !existsSync(privilegeFolder)
    if (madeFolder) mkdirSync(privilegeFolder, { mode: 0o755 })
    for (let attempt = 1; ; attempt++) {
      const sshd = new Sshd(...startOn(await freePort(), folder, runner), madeFolder)
      if (await sshd.#answers(runner)) return sshd
      sshd[Symbol.dispose]()
      if (attempt === attempts) throw new Error('the throw-away sshd does not start')
    }
  }

  [Symbol.dispose](): void {
    endTree(this.#child)
    if (this.#madeFolder && existsSync(privilegeFolder)) rmdirSync(privilegeFolder)
  }

  async #answers(runner: Runner): Promise<boolean> {
    for (let attempt = 0; attempt < answerAttempts && this.#child.exitCode === null; attempt++) {
      try {
        await runner.run({ argv: ['ssh', '-F', this.clientConfig, 'bench', 'true'] })
        return true
      } catch {
        runner.signal.throwIfAborted()
        await pause(answerPauseMs)
      }
    }
    return false
  }
}

/** Path of sshd, which need not be in the PATH of those who are not root; `null` where there is none. */
export function findSshd(): string | null {
  const { stdout } = spawnSync('sh', ['-c', 'PATH=$PATH:/usr/sbin:/usr/local/sbin command -v sshd'], {
    encoding: 'utf8',
  })
  return stdout.trim() || null
}

function startOn(port: number, folder: string, runner: Runner): [ChildProcess, string] {
  const at = (name: string) => join(folder, name)
  const serverLines = [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${at('host')}`,
    `AuthorizedKeysFile ${at('authorized_keys')}`,
    'PidFile none',
    'UsePAM no',
    'PasswordAuthentication no',
    'PermitRootLogin prohibit-password',
    // The folder may be below one that everybody can write to.
    'StrictModes no',
    // Four hosts at once knock at the same moment.
    'MaxStartups 100',
  ]
  const clientLines = [
    'Host bench',
    'HostName 127.0.0.1',
    `Port ${port}`,
    `IdentityFile ${at('user')}`,
    'IdentitiesOnly yes',
    'IdentityAgent none',
    `UserKnownHostsFile ${at('known_hosts')}`,
    'StrictHostKeyChecking accept-new',
    'LogLevel ERROR',
    'BatchMode yes',
  ]
  writeFileSync(at('sshd_config'), `${serverLines.join('\n')}\n`)
  writeFileSync(at('ssh_config'), `${clientLines.join('\n')}\n`)
  const child = runner.start({ argv: [findSshd()!, '-D', '-e', '-f', at('sshd_config')] })
  // Its log is of no use here, but a full pipe would stop it.
  child.stderr!.resume()
  return [child, at('ssh_config')]
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}
