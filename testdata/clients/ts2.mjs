// The TypeScript SDK v2, which speaks both eras.
import { readFileSync } from 'node:fs';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { legacy, main, modern } from './checks.mjs';

const { version } = JSON.parse(readFileSync(new URL('node_modules/@modelcontextprotocol/client/package.json', import.meta.url)));

await main('typescript-sdk-v2', [modern, legacy], async (o) => {
  const transport = o.url
    ? new StreamableHTTPClientTransport(new URL(o.url), { requestInit: { headers: o.token ? { Authorization: `Bearer ${o.token}` } : {} } })
    : new StdioClientTransport({ command: o.command[0], args: o.command.slice(1), stderr: 'inherit' });
  // "auto" finds the new era out by itself, which is what has to work.
  const client = new Client({ name: 'typescript-sdk-v2', version }, { versionNegotiation: { mode: o.era === modern ? 'auto' : 'legacy' } });
  await client.connect(transport);
  return {
    version,
    protocol: () => client.getNegotiatedProtocolVersion(),
    list: async () => (await client.listTools()).tools,
    call: (name, args, opts) => client.callTool({ name, arguments: args }, opts),
    resources: async () => (await client.listResources()).resources,
    templates: async () => (await client.listResourceTemplates()).resourceTemplates,
    read: (uri) => client.readResource({ uri }),
    prompts: async () => (await client.listPrompts()).prompts,
    prompt: (name) => client.getPrompt({ name }),
    close: async () => {
      if (o.url && o.era === legacy) await transport.terminateSession();
      await client.close();
    },
  };
});
