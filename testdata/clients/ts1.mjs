// The TypeScript SDK v1, which speaks the old era only.
import { readFileSync } from 'node:fs';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { legacy, main } from './checks.mjs';

const { version } = JSON.parse(readFileSync(new URL('node_modules/@modelcontextprotocol/sdk/package.json', import.meta.url)));

await main('typescript-sdk-v1', [legacy], async (o) => {
  const transport = o.url
    ? new StreamableHTTPClientTransport(new URL(o.url), { requestInit: { headers: o.token ? { Authorization: `Bearer ${o.token}` } : {} } })
    : new StdioClientTransport({ command: o.command[0], args: o.command.slice(1), stderr: 'inherit' });
  const client = new Client({ name: 'typescript-sdk-v1', version });
  // The SDK keeps the negotiated version to itself; it tells the transport.
  let protocol;
  const tell = transport.setProtocolVersion?.bind(transport);
  transport.setProtocolVersion = (v) => { protocol = v; tell?.(v); };
  await client.connect(transport);
  return {
    version,
    protocol: () => protocol,
    list: async () => (await client.listTools()).tools,
    call: (name, args, opts) => client.callTool({ name, arguments: args }, undefined, opts),
    resources: async () => (await client.listResources()).resources,
    templates: async () => (await client.listResourceTemplates()).resourceTemplates,
    read: (uri) => client.readResource({ uri }),
    prompts: async () => (await client.listPrompts()).prompts,
    prompt: (name) => client.getPrompt({ name }),
    close: async () => {
      if (o.url) await transport.terminateSession();
      await client.close();
    },
  };
});
