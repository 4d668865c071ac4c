// Runs one scenario: node run.mjs <file> <function>, with the project in the environment variable PROJECT (JSON).
// Exit 0 when it held; the reason on stderr and exit 1 when it did not.

const [file, name] = process.argv.slice(2)
const context = JSON.parse(process.env.PROJECT)
const { close } = await import('./client.mjs')
const scenarios = await import(`./${file}.mjs`)

let code = 0
try {
  await scenarios[name](context)
} catch (error) {
  process.stderr.write(`${error.stack ?? error}\n`)
  code = 1
}
await close()
process.exit(code)
