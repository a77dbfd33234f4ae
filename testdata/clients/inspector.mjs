// The command line of the MCP Inspector: one process for every request. It
// speaks the old era, and knows neither progress nor cancellation.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { legacy, main } from './checks.mjs';

const home = fileURLToPath(new URL('node_modules/@modelcontextprotocol/inspector-cli', import.meta.url));
const { version } = JSON.parse(readFileSync(`${home}/package.json`));

await main('inspector-cli', [legacy], async (o) => {
  const inspect = async (...request) => {
    const [program, ...rest] = o.url ? [o.url] : o.command;
    const command = !o.url && program.includes('/') ? resolve(program) : program;
    const header = o.token ? ['--header', `Authorization: Bearer ${o.token}`] : [];
    const argv = ['index.js', command, ...request, ...header, '--', ...rest];
    // It looks for its own package.json from the directory that it runs in.
    const { stdout } = await promisify(execFile)(process.execPath, argv, { cwd: `${home}/build`, maxBuffer: 64 << 20 })
      .catch((error) => { throw new Error(error.stderr || error.message); });
    return JSON.parse(stdout);
  };
  return {
    version,
    list: async () => (await inspect('--method', 'tools/list')).tools,
    call: (name, args) => inspect(
      '--method', 'tools/call', '--tool-name', name,
      ...Object.entries(args).flatMap(([k, v]) => ['--tool-arg', `${k}=${v}`]),
    ),
    resources: async () => (await inspect('--method', 'resources/list')).resources,
    templates: async () => (await inspect('--method', 'resources/templates/list')).resourceTemplates,
    read: (uri) => inspect('--method', 'resources/read', '--uri', uri),
    prompts: async () => (await inspect('--method', 'prompts/list')).prompts,
    prompt: (name) => inspect('--method', 'prompts/get', '--prompt-name', name),
    close: async () => {},
  };
}, ['list', 'plan', 'run', 'refusal', 'argument', 'unknown', 'resources', 'prompts']);
