import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Configuration, loadConfiguration } from '../src/config/load.ts'
import { ConfigurationError, type Problem } from '../src/errors.ts'
import { TemporaryFolder } from './temporary-folder.ts'

export const goodHost = "{ address: '192.0.2.10', password: 'secret', paths: ['/etc'] }"

/** A home in a temporary folder, with settings and hosts as they are written. */
export class HomeFolder extends TemporaryFolder {
  constructor(files: Readonly<Record<string, string>> = {}) {
    super()
    this.write('package.json', '{"type":"module","private":true}')
    this.write('settings.ts', "export default { repository: 'repository' }")
    mkdirSync(this.at('hosts'))
    for (const [name, text] of Object.entries(files)) this.write(name, text)
  }

  write(name: string, text: string, mode = 0o644): string {
    mkdirSync(dirname(this.at(name)), { recursive: true })
    writeFileSync(this.at(name), text, { mode })
    return this.at(name)
  }

  /** A host module that exports the expression. */
  writeHost(name: string, expression: string = goodHost): string {
    return this.write(`hosts/${name}.ts`, `export default ${expression}\n`)
  }

  load(environment: Record<string, string> = {}): Promise<Configuration> {
    return loadConfiguration(this.path, { environment, uid: process.geteuid!() })
  }

  /** The problems that loading throws. */
  async loadProblems(): Promise<readonly Problem[]> {
    try {
      await this.load()
    } catch (error) {
      if (error instanceof ConfigurationError) return error.problems
      throw error
    }
    return []
  }
}
