/** A line that is slow, loses, resets or swallows: loopback in a network namespace of its own, with tc and iptables. */
import { Program, runCommand } from './program.ts'
import { lacksProgram } from './site.ts'

/** Programs with its `wrapper` meet each other on 127.0.0.1 of it, and nobody else. Disposing of it takes it away. */
export class Line implements AsyncDisposable {
  readonly wrapper: readonly string[]
  readonly #holder: Program

  private constructor(holder: Program) {
    this.#holder = holder
    this.wrapper = ['nsenter', '-t', `${holder.pid}`, '-n', '--']
  }

  static async make(): Promise<Line> {
    // With packets of the size of those on a real line.
    const script = 'ip link set lo up mtu 1500 && echo up && exec sleep 3600'
    const holder = new Program(['unshare', '-n', 'sh', '-c', script])
    await holder.until(() => (holder.stdout === 'up\n' ? true : undefined), 'a namespace')
    return new Line(holder)
  }

  /** So many bits a second; a packet that would wait for longer than 400 ms is lost. */
  async limitTo(rate: string): Promise<void> {
    await this.run(`tc qdisc add dev lo root tbf rate ${rate} burst 256kb latency 400ms`)
  }

  /** What becomes of packets that arrive. `rule` is the text of one of iptables, without its chain. */
  async addRule(rule: string): Promise<void> {
    await this.run(`iptables -w -A INPUT -p tcp ${rule}`)
  }

  /** Carries everything again, as fast as it can. */
  async beGood(): Promise<void> {
    await this.run(
      'iptables -w -F INPUT; if tc qdisc show dev lo | grep -q tbf; then tc qdisc del dev lo root; fi',
    )
  }

  /** Runs a command in it, and returns what it says. Throws where it fails. */
  async run(command: string): Promise<string> {
    const { code, stdout, stderr } = await runCommand(['sh', '-c', command], { wrapper: this.wrapper })
    if (code !== 0) throw new Error(`${command}: ${stderr.trim()}`)
    return stdout
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#holder[Symbol.asyncDispose]()
  }
}

/** Why a test cannot have a bad line on this machine; `false` where it can. */
export async function lacksLine(): Promise<string | false> {
  if (process.geteuid!() !== 0) return 'only root can make a network namespace'
  for (const program of ['unshare', 'nsenter', 'ip', 'tc', 'iptables']) {
    const lacks = await lacksProgram(program)
    if (lacks) return lacks
  }
  try {
    await using line = await Line.make()
    await line.limitTo('16mbit')
    await line.addRule('--dport 9 -m statistic --mode random --probability .2 -j DROP')
    await line.addRule(
      '--dport 9 -m connbytes --connbytes 1: --connbytes-dir both --connbytes-mode bytes -j DROP',
    )
    await line.addRule('--dport 9 -j REJECT --reject-with tcp-reset')
    return false
  } catch (error) {
    return `this kernel cannot make lines bad: ${(error as Error).message}`
  }
}
