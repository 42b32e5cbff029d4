package mcp

import (
	"context"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	// MaxMessage is the largest message that is taken, in bytes.
	MaxMessage = 64 << 20
	// idle is after how long without a request a session is forgotten.
	idle = time.Hour
)

// Handler serves s over streamable HTTP to those who have the token. Requests
// that come from a page of another origin, or name another host than this
// machine, are refused: a browser must not be made to speak for its user.
func Handler(s *sdk.Server, token string, log *slog.Logger) http.Handler {
	serve := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s },
		&sdk.StreamableHTTPOptions{Logger: log, SessionTimeout: idle, MaxRequestBodyBytes: MaxMessage})
	verify := func(_ context.Context, got string, _ *http.Request) (*auth.TokenInfo, error) {
		if subtle.ConstantTimeCompare([]byte(got), []byte(token)) != 1 {
			return nil, fmt.Errorf("%w: it is the one in the server's token file", auth.ErrInvalidToken)
		}
		return &auth.TokenInfo{UserID: "owner"}, nil
	}
	guarded := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{AllowMissingExpiration: true})(serve)
	return http.NewCrossOriginProtection().Handler(guarded)
}
