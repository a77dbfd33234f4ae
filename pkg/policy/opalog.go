package policy

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/open-policy-agent/opa/v1/logging"
)

// opaLogger hands what OPA says of itself to slog.
type opaLogger struct{ to *slog.Logger }

func (l opaLogger) say(level slog.Level, format string, args []any) {
	if l.to.Enabled(context.Background(), level) {
		l.to.Log(context.Background(), level, fmt.Sprintf(format, args...))
	}
}

func (l opaLogger) Debug(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
func (l opaLogger) Info(format string, args ...any)  { l.say(slog.LevelInfo, format, args) }
func (l opaLogger) Warn(format string, args ...any)  { l.say(slog.LevelWarn, format, args) }
func (l opaLogger) Error(format string, args ...any) { l.say(slog.LevelError, format, args) }

func (l opaLogger) WithFields(fields map[string]any) logging.Logger {
	args := make([]any, 0, 2*len(fields))
	for name, value := range fields {
		args = append(args, name, value)
	}
	return opaLogger{l.to.With(args...)}
}

// GetLevel asks OPA for everything; slog's handler chooses.
func (l opaLogger) GetLevel() logging.Level { return logging.Debug }

func (l opaLogger) SetLevel(logging.Level) {}
