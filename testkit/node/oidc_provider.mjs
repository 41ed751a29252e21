// A certified OpenID provider on a loopback port, for tests: short-lived access tokens, refresh tokens that serve once.
//
//   node oidc_provider.mjs '{"client_id": …, "client_secret": …, "redirect_uri": …, "post_logout_redirect_uri": …,
//                            "access_token_seconds": 3}'
//
// Its first line on standard output is {"issuer": …}. Whoever types a name on its sign-in page is that user; any
// password will do. GET /dev/counts tells what it has seen. It ends when its standard input does.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { load } from './modules.mjs';

const { Provider } = await load('oidc-provider');
const app = JSON.parse(process.argv[2]);

const server = createServer().listen(0, '127.0.0.1');
await new Promise((resolve, reject) => server.once('listening', resolve).once('error', reject));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: app.client_id,
    client_secret: app.client_secret,
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [app.redirect_uri],
    post_logout_redirect_uris: [app.post_logout_redirect_uri],
  }],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username'] },
  conformIdTokenClaims: false,
  cookies: { keys: [randomBytes(32).toString('hex')] },
  features: { devInteractions: { enabled: true } },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, name: sub.split('@')[0], preferred_username: sub }),
  }),
  jwks: { keys: [signingKey()] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: app.access_token_seconds,
    AuthorizationCode: 60,
    Grant: 86_400,
    IdToken: 3_600,
    Interaction: 3_600,
    RefreshToken: 86_400,
    Session: 86_400,
  },
});

const counts = { authorization_code: 0, refresh_token: 0, refused: 0, revoked: 0 };
provider.on('grant.success', (ctx) => { counts[ctx.oidc.params.grant_type] += 1; });
provider.on('grant.error', () => { counts.refused += 1; });
provider.on('grant.revoked', () => { counts.revoked += 1; });

const answer = provider.callback();
server.on('request', (request, response) => {
  if (request.url === '/dev/counts') {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(counts));
  } else {
    answer(request, response);
  }
});

process.stdin.resume().once('end', () => process.exit());
console.log(JSON.stringify({ issuer }));

function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), alg: 'RS256', kid: 'test', use: 'sig' };
}
