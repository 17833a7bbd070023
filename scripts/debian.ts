/** A Debian in a folder: made by debootstrap, and, where a systemd is in it, booted by systemd-nspawn. For root only. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Ended, Program } from '../test/harness/program.ts'

/** Makes a small Debian in `root`, which takes some minutes and a mirror. */
export function makeDebian(root: string, packages: readonly string[] = []): void {
  const included = packages.length === 0 ? [] : [`--include=${packages.join(',')}`]
  const made = spawnSync('debootstrap', ['--variant=minbase', ...included, 'stable', root], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (made.error !== undefined)
    throw new Error('debootstrap is not installed; name a root folder with --root')
  if (made.status !== 0) throw new Error(`debootstrap ended with ${made.status}; is a mirror reachable?`)
}

const bootMsMax = 120_000
const haltMsMax = 60_000

/** A Debian whose systemd runs, with a network of its own that has nothing but loopback. Disposing of it halts it. */
export class Machine implements AsyncDisposable {
  readonly root: string
  readonly #nspawn: Program
  #init = 0

  private constructor(root: string, nspawn: Program) {
    this.root = root
    this.#nspawn = nspawn
  }

  /** Resolves once all its units have started. */
  static async boot(root: string): Promise<Machine> {
    // Where systemd runs this machine, nspawn has it make a place for the new one; elsewhere there is nobody to ask.
    const alone = existsSync('/run/systemd/system') ? [] : ['--keep-unit']
    const command = ['systemd-nspawn', '--quiet', '--register=no', ...alone, '--private-network', '--boot']
    const nspawn = new Program([...command, '--console=pipe', '-D', root], {
      env: { SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1' },
    })
    const machine = new Machine(root, nspawn)
    try {
      await machine.until(() => machine.#findInit(), bootMsMax, 'a first process')
      await machine.until(
        () => existsSync(`/proc/${machine.#init}/root/run/systemd/private`),
        bootMsMax,
        'systemd',
      )
      await machine.run('systemctl is-system-running --wait', [0, 1])
      return machine
    } catch (error) {
      await machine[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A path of the machine, as seen from here. */
  at(path: string): string {
    return join(this.root, path)
  }

  /** Starts a shell command in it, as root. */
  start(script: string): Program {
    const inside = ['nsenter', '-t', `${this.#init}`, '-m', '-u', '-i', '-n', '-p', '-r', '-w']
    const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    return new Program([...inside, '/bin/sh', '-ec', script], {
      env: { PATH, HOME: '/root', NODE_COMPILE_CACHE: '/var/cache/node' },
    })
  }

  /** Runs one to its end, which is to be with one of `codes`. */
  async run(script: string, codes: readonly number[] = [0]): Promise<Ended> {
    const ended = await this.start(script).endWithin(bootMsMax)
    if (ended.code === null || !codes.includes(ended.code))
      throw new Error(`${script}\nended with ${ended.code}\n${ended.stdout}${ended.stderr}`)
    return ended
  }

  /** Resolves once `look` finds something; what it finds. Looks ten times a second. */
  async until<T>(look: () => T | Promise<T>, msMax: number, what: string): Promise<NonNullable<T>> {
    const deadlineMs = performance.now() + msMax
    for (;;) {
      const found = await look()
      if (found) return found
      if (!this.#nspawn.running) throw new Error(`the machine ended: ${this.#nspawn.stderr.slice(-2000)}`)
      if (performance.now() > deadlineMs) throw new Error(`there never was ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // One asks systemd to halt; a second would be a cut of the power.
    this.#nspawn.kill('SIGTERM')
    await this.#nspawn.endWithin(haltMsMax)
  }

  #findInit(): boolean {
    const { pid } = this.#nspawn
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
    const isFirst = (child: string) => /^NSpid:.*\t1$/m.test(readFileSync(`/proc/${child}/status`, 'utf8'))
    this.#init = Number(children.filter(Boolean).find(isFirst) ?? 0)
    return this.#init > 0
  }
}
