/** Generated trees on the disk: made once, found again by their marker, changed and put back. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setImmediate as pause } from 'node:timers/promises'
import { Random } from '../test/harness/random.ts'
import { fillContent } from './contents.ts'
import { type PlannedFile, singleFileBytes, singleFileName, type TreePlan } from './tree-plan.ts'

/** Goes up when the same plan makes other trees than before, so that old ones are not taken for new ones. */
const generatorVersion = 2
const pieceBytes = 1 << 20
/** After so many files, signals get a chance to be heard. */
const filesWithoutPause = 500
/** Of the files that `change` touches, these many are new ones; the rest is written anew. */
const newShare = 0.1

export class Tree {
  readonly name: string
  readonly folder: string
  readonly plan: TreePlan
  readonly #marker: string
  readonly #rewritten = new Set<number>()
  /** Never the same for two states of the tree. */
  state = 0
  #newFolder: string | null = null

  /** `folder` is where the tree is, or will be once `make` is called. */
  constructor(name: string, folder: string, plan: TreePlan) {
    this.name = name
    this.folder = folder
    this.plan = plan
    this.#marker = `${folder}.json`
  }

  /** Files as planned, without those that `change` added. */
  get fileCount(): number {
    return this.plan.files.length
  }

  get bytes(): number {
    return this.plan.files.reduce((sum, file) => sum + file.bytes, 0)
  }

  /** Relative to the tree. */
  get singleFile(): string {
    return this.plan.files.find(({ path }) => path.endsWith(singleFileName))!.path
  }

  /** Absolute. Empty where the tree cannot be shared out. */
  get parts(): string[] {
    return this.plan.parts.map((part) => join(this.folder, part))
  }

  /** Whether it is there as planned; otherwise `make` has work to do. */
  isMade(): boolean {
    return existsSync(this.#marker) && readFileSync(this.#marker, 'utf8') === this.#markerText()
  }

  /** Writes the tree, where it is not there yet. */
  async make(signal: AbortSignal): Promise<void> {
    if (this.isMade()) return
    rmSync(this.folder, { recursive: true, force: true })
    mkdirSync(this.folder, { recursive: true })
    for (const folder of this.plan.folders) mkdirSync(join(this.folder, folder))
    for (const [index, file] of this.plan.files.entries()) {
      if (index % filesWithoutPause === 0) await pause()
      signal.throwIfAborted()
      this.#write(file, index, 0)
    }
    for (const { path, target } of this.plan.links) symlinkSync(target, join(this.folder, path))
    writeFileSync(this.#marker, this.#markerText())
  }

  /**
   * Changes a share of the files: nine of ten get other content of the same size, the tenth is new, and what the last
   * change added goes. The single file stays as it is. `putBack` takes it all back.
   */
  change(share: number): void {
    // A bench that is killed now leaves a tree that the next one makes again.
    rmSync(this.#marker, { force: true })
    this.state++
    const random = new Random(this.state)
    const added = Math.ceil(this.fileCount * share * newShare)
    const before = this.#newFolder
    this.#newFolder = join(this.folder, `new-${this.state}`)
    mkdirSync(this.#newFolder)
    for (let index = 0; index < added; index++) {
      const file = random.of(this.plan.files)
      const copy = { ...file, bytes: Math.min(file.bytes, pieceBytes), path: `new-${this.state}/${index}` }
      this.#write(copy, this.fileCount + index, this.state)
    }
    for (const index of this.plan.files.keys()) {
      if (random.chance(share * (1 - newShare))) this.#rewrite(index)
    }
    if (before !== null) rmSync(before, { recursive: true })
  }

  /** Gives all files the content that was planned. */
  putBack(): void {
    if (this.#newFolder === null) return
    this.state++
    rmSync(this.#newFolder, { recursive: true })
    this.#newFolder = null
    for (const index of this.#rewritten) this.#write(this.plan.files[index]!, index, 0)
    this.#rewritten.clear()
    writeFileSync(this.#marker, this.#markerText())
  }

  #rewrite(index: number): void {
    const file = this.plan.files[index]!
    if (file.bytes === singleFileBytes) return
    this.#rewritten.add(index)
    this.#write(file, index, this.state)
  }

  #write(file: PlannedFile, index: number, state: number): void {
    const descriptor = openSync(join(this.folder, file.path), 'w')
    try {
      for (let written = 0, piece = 0; written < file.bytes; piece++) {
        const buffer = Buffer.allocUnsafe(Math.min(pieceBytes, file.bytes - written))
        const kind = file.kind === 'halves' ? (piece % 2 === 0 ? 'text' : 'compressed') : file.kind
        fillContent(buffer, kind, [index * 4096 + piece, state])
        written += writeSync(descriptor, buffer)
      }
    } finally {
      closeSync(descriptor)
    }
  }

  #markerText(): string {
    const { name, fileCount, bytes } = this
    return `${JSON.stringify({ generator: generatorVersion, name, files: fileCount, bytes })}\n`
  }
}
